"""What goes into the store and comes out of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

DIMENSION = 2560
"""Numbers in a vector; the database refuses any other."""

Disposition = Literal["EMBEDDED", "REUSED", "UNCHANGED"]
SpaceState = Literal["BUILDING", "ACTIVE", "RETIRED"]


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A piece of a file, as its sender gave it.

    Attributes:
        path: Path inside the codebase, with `/`.
        start_line: First line, counted from 1.
        end_line: Last line, inclusive.
        text_sha256: SHA-256 (32 bytes) of the text that is embedded for the chunk.
        file_sha256: SHA-256 (32 bytes) of the whole file; chunks of one hash are one version of it.
        ordinal: Position in the file, from 0.
        file_chunk_count: Chunks that this version of the file has in all.
    """

    path: str
    language: str
    symbol: str
    kind: str
    start_line: int
    end_line: int
    content: str
    text_sha256: bytes
    file_sha256: bytes
    ordinal: int
    file_chunk_count: int


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk that is stored with its vector, and what was done for it."""

    chunk_id: int
    disposition: Disposition


@dataclass(frozen=True, slots=True)
class ExistingChunks:
    """What the store already has of a batch.

    Attributes:
        unchanged: From a row's position in the batch to the id of its chunk, which is stored with a vector.
        reusable: `text_sha256` of the other rows whose text has a vector in the codebase already.
    """

    unchanged: Mapping[int, int]
    reusable: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class FileVersionRow:
    """One stored version of a file.

    Attributes:
        stored_chunk_count: Its chunks that have a vector in the space.
        file_chunk_count: Chunks that it has in all; it is complete when both are equal.
    """

    path: str
    file_sha256: bytes
    stored_chunk_count: int
    file_chunk_count: int


@dataclass(frozen=True, slots=True)
class CodebaseRow:
    """A codebase, counted in one space.

    Attributes:
        codebase_key: The database's own key, which the other stores take.
        codebase_id: The name that callers use.
        chunk_count: Chunks with a vector in the space.
        pending_chunk_count: Chunks without one.
    """

    codebase_key: int
    codebase_id: str
    display_name: str
    create_time: datetime
    chunk_count: int
    pending_chunk_count: int


@dataclass(frozen=True, slots=True)
class SpaceRow:
    """A space.

    Attributes:
        space_key: The database's own key; also names the partition of its vectors.
        fingerprint: 64 hex digits.
        manifest: What the fingerprint was taken over.
    """

    space_key: int
    fingerprint: str
    manifest: Mapping[str, Any]
    state: SpaceState
    create_time: datetime


@dataclass(frozen=True, slots=True)
class HitRow:
    """A chunk that a search found; `score` is the cosine similarity, -1 to 1."""

    chunk_id: int
    chunk: ChunkRow
    score: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits of a search, best first, equal scores by chunk id.

    Attributes:
        exact: True when every vector of the codebase was compared; False when an HNSW index chose candidates.
        searched_chunk_count: Chunks of the codebase with a vector in the space.
        pending_chunk_count: Chunks without one, which could not be found.
    """

    hits: tuple[HitRow, ...]
    exact: bool
    searched_chunk_count: int
    pending_chunk_count: int
