"""What the indexer tells while it runs, and when it is done."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Protocol

from gateway.client.errors import ClientError


class Progress(Protocol):
    """Told of what happens, in the thread that indexes."""

    def files_found(self, count: int) -> None:
        """The tree has been walked: so many files will be looked at."""

    def file_done(self, path: str) -> None:
        """A file is unchanged, skipped, or all its chunks are answered."""

    def chunk_done(self) -> None:
        """A chunk was answered."""

    def waiting(self, refusal: ClientError, seconds: float) -> None:
        """The service is full or away; nothing is sent for so long."""


class NoProgress:
    """A Progress that tells nobody."""

    def files_found(self, count: int) -> None:
        """Ignore."""

    def file_done(self, path: str) -> None:
        """Ignore."""

    def chunk_done(self) -> None:
        """Ignore."""

    def waiting(self, refusal: ClientError, seconds: float) -> None:
        """Ignore."""


@dataclass(frozen=True, slots=True)
class ChunkFailure:
    """A chunk that the server did not store: where it is, and the gRPC code's name and message."""

    path: str
    start_line: int
    code: str
    message: str


@dataclass(slots=True)
class IndexReport:
    """What a run did.

    Attributes:
        codebase_id: The codebase.
        created: True when this run created it.
        files_scanned: Files of the tree, the skipped ones not counted.
        files_unchanged: Complete on the server already.
        files_changed: New or of new content, and now complete.
        files_incomplete: With a chunk that failed; the next run sends them again.
        files_without_chunks: With nothing to store, such as imports alone; counted neither unchanged nor changed.
        files_removed: Deleted on the server, as they are gone or can no longer be indexed.
        skipped: Number of files by reason.
        skipped_examples: Up to five paths by reason.
        chunks_embedded: Embedded by this run.
        chunks_reused: Stored with the vector of an equal text.
        chunks_unchanged: Were there, from an interrupted run.
        chunks_truncated: Longer than an encoder reads, and cut.
        chunks_failed: Not stored.
        chunks_deleted: Old versions and removed files.
        failures: The first fifty failed chunks.
        elapsed_s: Duration, seconds.
    """

    codebase_id: str
    created: bool = False
    files_scanned: int = 0
    files_unchanged: int = 0
    files_changed: int = 0
    files_incomplete: int = 0
    files_without_chunks: int = 0
    files_removed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    skipped_examples: dict[str, list[str]] = field(default_factory=dict)
    chunks_embedded: int = 0
    chunks_reused: int = 0
    chunks_unchanged: int = 0
    chunks_truncated: int = 0
    chunks_failed: int = 0
    chunks_deleted: int = 0
    failures: list[ChunkFailure] = field(default_factory=list)
    elapsed_s: float = 0.0

    def to_dict(self) -> dict[str, object]:
        """Give the report as plain values, for JSON."""
        return {**asdict(self), "skipped": dict(self.skipped)}
