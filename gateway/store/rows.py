"""What goes into the store and comes out of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gateway.store.search_plan import Method

DIMENSION = 2560
"""Numbers in a vector; the database refuses any other."""

Disposition = Literal["EMBEDDED", "REUSED", "UNCHANGED"]
SpaceState = Literal["BUILDING", "ACTIVE", "STANDBY", "DROPPING"]


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
class FileSelector:
    """Which chunks of a file are deleted.

    Attributes:
        keep_file_sha256: The version that is kept; None keeps none.
        keep_file_chunk_count: Chunks that it has; what is stored of it by another cut is deleted. None for any.
        delete_file_sha256: The versions that are deleted; empty for all but the one to keep.
    """

    path: str
    keep_file_sha256: bytes | None = None
    keep_file_chunk_count: int | None = None
    delete_file_sha256: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class FileVersionRow:
    """One stored version of a file.

    Attributes:
        stored_chunk_count: Its chunks that have a vector in the space; 0 where they are of two cuts.
        file_chunk_count: Chunks that it has in all; it is complete when both are equal.
    """

    path: str
    file_sha256: bytes
    stored_chunk_count: int
    file_chunk_count: int


@dataclass(frozen=True, slots=True)
class NewRevision:
    """A git commit that a codebase was brought into line with, to be recorded.

    Attributes:
        commit_id: 40 or 64 hexadecimal digits.
        folder: Of the repository; empty for all of it.
        branch: Empty where none was checked out.
        commit_time: When the commit was made.
        modified: Changes that are in no commit were stored, too.
    """

    commit_id: str
    folder: str
    branch: str
    commit_time: datetime | None
    modified: bool


@dataclass(frozen=True, slots=True)
class RevisionRow(NewRevision):
    """A revision that was recorded.

    Attributes:
        version: Counts what was recorded for the codebase, from 1.
        record_time: When it was recorded.
        outdated: Chunks were written or deleted since.
    """

    version: int
    record_time: datetime
    outdated: bool


@dataclass(frozen=True, slots=True)
class CodebaseRow:
    """A codebase, counted in one space.

    Attributes:
        codebase_key: The database's own key, which the other stores take.
        codebase_id: The name that callers use.
        chunk_count: Chunks with a vector in the space.
        pending_chunk_count: Chunks without one.
        revision: None where nothing was recorded.
    """

    codebase_key: int
    codebase_id: str
    display_name: str
    create_time: datetime
    chunk_count: int
    pending_chunk_count: int
    revision: RevisionRow | None = None


@dataclass(frozen=True, slots=True)
class SpaceRow:
    """A space.

    Attributes:
        space_key: The database's own key; also names the partition of its vectors.
        fingerprint: 64 hex digits.
        manifest: What the fingerprint was taken over.
        state: BUILDING is filled beside the active space; STANDBY was active, and can be
            rolled back to; DROPPING loses its vectors.
        activate_time: When it became active last; None when it never was.
        deactivate_time: When another took its place; None for the active one and for those that never were.
        filling: Whether its chunks without vector are being embedded.
        fill_rate: Chunks a second at most; None for as many as the encoders take.
        fill_error: Why the last batch failed; empty when it did not.
        truncated_chunk_count: Chunks that an encoder of this space could not read to their end.
        verification: What was found when every chunk had a vector; None before.
    """

    space_key: int
    fingerprint: str
    manifest: Mapping[str, Any]
    state: SpaceState
    create_time: datetime
    activate_time: datetime | None
    deactivate_time: datetime | None
    filling: bool
    fill_rate: float | None
    fill_error: str
    truncated_chunk_count: int
    verification: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many chunks a space has vectors of.

    Attributes:
        chunk_count: Chunks of all codebases.
        pending_chunk_count: Those without a vector in the space.
    """

    chunk_count: int
    pending_chunk_count: int


@dataclass(frozen=True, slots=True)
class PendingChunk:
    """A chunk that has no vector in a space, or is asked for one.

    Attributes:
        text_sha256: SHA-256 (32 bytes) of the text that is embedded: a vector is stored only while it is that text.
    """

    chunk_id: int
    codebase_key: int
    symbol: str
    content: str
    text_sha256: bytes


@dataclass(frozen=True, slots=True)
class FilterRow:
    """Which chunks a search may find; what is empty does not restrict.

    Attributes:
        path_regex: Regular expression of PostgreSQL over the whole path. It must be one that is matched without
            backtracking.
        path_from: No path below this one, by code points, matches `path_regex`.
        path_below: No path from this one on matches `path_regex`; empty where there is no such bound.
    """

    languages: Sequence[str] = ()
    kinds: Sequence[str] = ()
    path_regex: str = ""
    path_from: str = ""
    path_below: str = ""

    @property
    def restricts(self) -> bool:
        """Whether any field is set."""
        return bool(self.languages or self.kinds or self.path_regex)


@dataclass(frozen=True, slots=True, eq=False)
class SearchQuery:
    """What to look for, and which page of it.

    Attributes:
        vector_D: (2560,), float32, norm 1.
        scale: What its cosine with a stored vector is multiplied by, to be the similarity.
        text: The words to look for; empty for none.
        lexical_weight: Their share of the score, 0 to 1.
        filter: Which chunks may be found.
        min_score: Least score of a hit; None for any.
        excluded_chunk_id: A chunk that is no hit; None for none.
        limit: Hits at most, 1 to 500.
        pool: Candidates that the first page asked an index for; None on the first page.
        after: Score and chunk id of the last hit of the page before; None on the first page.
        word_weights: What each word weighed on the first page; None on the first page.
    """

    vector_D: NDArray[np.float32]
    limit: int
    scale: float = 1.0
    text: str = ""
    lexical_weight: float = 0.0
    filter: FilterRow = FilterRow()
    min_score: float | None = None
    excluded_chunk_id: int | None = None
    pool: int | None = None
    after: tuple[float, int] | None = None
    word_weights: Mapping[str, float] | None = None

    @property
    def words(self) -> str:
        """The text whose words count; empty for none."""
        return self.text if self.lexical_weight > 0 else ""


@dataclass(frozen=True, slots=True)
class HitRow:
    """A chunk that a search found.

    Attributes:
        score: What hits are ranked by: the weighted sum of `similarity` and `lexical_score`.
        similarity: Cosine similarity, -1 to 1.
        lexical_score: Share of the query's words that the chunk has, by weight, 0 to 1.
    """

    chunk_id: int
    codebase_key: int
    chunk: ChunkRow
    score: float
    similarity: float
    lexical_score: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits of a search, best first, equal scores by chunk id.

    Attributes:
        codebase_ids: Those of the codebases that were searched, in the order asked for, by their keys.
        revisions: What is recorded of these, by their keys; those of which something is.
        method: How candidates were found.
        pool: Candidates that an index was asked for; later pages of the query must ask for as many.
        word_weights: What each word that counted weighs; later pages of the query must weigh them the same.
        has_more: Whether there is another page.
        candidates_exhausted: Whether an index gave fewer hits, or candidates, than were asked for although there are
            more chunks, or gave earlier pages of a list that goes on without it.
        candidate_count: Chunks that were compared at full precision.
        searched_chunk_count: Chunks of the codebases with a vector in the space.
        pending_chunk_count: Chunks without one, which could not be found.
    """

    hits: tuple[HitRow, ...]
    codebase_ids: Mapping[int, str]
    revisions: Mapping[int, RevisionRow]
    method: Method
    pool: int
    word_weights: Mapping[str, float]
    has_more: bool
    candidates_exhausted: bool
    candidate_count: int
    searched_chunk_count: int
    pending_chunk_count: int
