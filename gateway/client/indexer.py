"""Brings a codebase on the server into line with a source tree, sending only what changed."""

import hashlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from duovec.v1 import chunk_pb2 as chunk_pb
from duovec.v1 import index_service_pb2 as index_pb
from gateway.client.chunking import DEFAULT_MAX_CHARS, chunk_file
from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.client.files import SkippedFile, find_files, read_source
from gateway.client.report import ChunkFailure, IndexReport, NoProgress, Progress
from gateway.client.stream import ChunkStream

_Selector = index_pb.DeleteChunksRequest.FileSelector
_SELECTORS_PER_CALL = 1000
_EXAMPLES_KEPT = 5
_FAILURES_KEPT = 50


class IndexingFailed(ClientError):
    """The run could not go on; `report` says what is done. Running again resumes."""

    def __init__(self, cause: ClientError, report: IndexReport) -> None:
        """Wrap the error that ended the run."""
        done = report.chunks_embedded + report.chunks_reused + report.chunks_unchanged
        super().__init__(
            f"{cause} ({done} chunks are stored; run again to resume)",
            code=cause.code,
            reason=cause.reason,
            violations=cause.violations,
            retry_delay_s=cause.retry_delay_s,
        )
        self.report = report


def index_tree(
    client: Client,
    root: Path,
    codebase_id: str,
    *,
    max_chars: int = DEFAULT_MAX_CHARS,
    window: int = 512,
    stall_timeout_s: float = 600.0,
    progress: Progress | None = None,
) -> IndexReport:
    """Index a folder, or one file, into a codebase, which is created where it is missing.

    Files that the server has in full are not sent. Old versions of a file are deleted once the new one is complete;
    after a folder, files that it no longer holds are deleted, too. Interrupted at any point, the next run goes on.

    Args:
        client: Where to.
        root: A folder, whose files get paths relative to it, or one file.
        codebase_id: The codebase.
        max_chars: Longest chunk, characters.
        window: Chunks at most on the way.
        stall_timeout_s: How long to wait for any reply to a chunk, seconds.
        progress: Told of what happens.

    Returns:
        What was done; chunks that failed one by one are in it and raise nothing.

    Raises:
        IndexingFailed: The service cannot be reached, refuses the codebase, or stops answering (a ClientError).
        FileNotFoundError: There is no such file or folder.
        ClientError: The folder holds nothing to index, while the codebase is not empty.
    """
    started = time.monotonic()
    run = _Run(client, codebase_id, max_chars, progress or NoProgress())
    stream = ChunkStream(client, run.on_reply, window=window, stall_timeout_s=stall_timeout_s)
    try:
        run.index(root, stream)
    except ClientError as error:
        raise IndexingFailed(error, run.report) from error
    finally:
        stream.close()
        run.report.elapsed_s = time.monotonic() - started
    return run.report


@dataclass(slots=True)
class _FileState:
    """A file whose chunks are on the way."""

    file_sha256: bytes
    waiting: int
    failed: bool = False


class _Run:
    def __init__(self, client: Client, codebase_id: str, max_chars: int, progress: Progress) -> None:
        self.report = IndexReport(codebase_id)
        self._client = client
        self._codebase_id = codebase_id
        self._max_chars = max_chars
        self._progress = progress
        self._stored: dict[str, list[index_pb.FileVersion]] = {}
        self._sending: dict[str, _FileState] = {}
        self._deletions: list[_Selector] = []
        self._item_ids = itertools.count()

    def index(self, root: Path, stream: ChunkStream) -> None:
        tree = find_files(root)
        self._load_stored()
        if root.is_dir() and self._stored and not tree.paths:
            # Far more often a wrong path than a wish to empty the codebase.
            raise ClientError(
                f"{root} holds no file to index, but codebase {self._codebase_id!r} is not empty; delete it instead",
                code=grpc.StatusCode.FAILED_PRECONDITION,
            )
        self._progress.files_found(len(tree.paths))
        kept: set[str] = set()
        unreadable: list[str] = []
        for skipped in tree.skipped:
            self._skip(skipped)
            if skipped.reason == "unreadable":
                unreadable.append(skipped.path)
        for path in tree.paths:
            source = read_source(tree, path)
            if isinstance(source, SkippedFile):
                self._skip(source)
                if source.reason == "unreadable":
                    unreadable.append(path)
                self._progress.file_done(path)
            else:
                kept.add(path)
                self._index_file(path, source, stream)
        stream.drain()
        if root.is_dir():
            self._remove_gone(kept, unreadable)
        self._delete(at_least=1)

    def on_reply(self, request: index_pb.IndexChunksRequest, reply: index_pb.IndexChunksResponse) -> None:
        chunk, report = request.chunk, self.report
        state = self._sending[chunk.path]
        disposition = reply.indexed.disposition
        if reply.WhichOneof("outcome") != "indexed":
            state.failed = True
            report.chunks_failed += 1
            if len(report.failures) < _FAILURES_KEPT:
                code, message = _code_name(reply.error.code), reply.error.message or "the reply is empty"
                report.failures.append(ChunkFailure(chunk.path, chunk.start_line, code, message))
        elif disposition == index_pb.IndexedChunk.DISPOSITION_REUSED:
            report.chunks_reused += 1
        elif disposition == index_pb.IndexedChunk.DISPOSITION_UNCHANGED:
            report.chunks_unchanged += 1
        else:
            report.chunks_embedded += 1
        report.chunks_truncated += reply.indexed.truncated
        self._progress.chunk_done()
        state.waiting -= 1
        if state.waiting == 0:
            self._finish_file(chunk.path, self._sending.pop(chunk.path))

    def _load_stored(self) -> None:
        try:
            self._list_stored()
        except ClientError as error:
            if error.code != grpc.StatusCode.NOT_FOUND:
                raise
            self._create_codebase()

    def _list_stored(self) -> None:
        for version in self._client.list_files(self._codebase_id):
            self._stored.setdefault(version.path, []).append(version)

    def _create_codebase(self) -> None:
        try:
            self._client.create_codebase(self._codebase_id)
            self.report.created = True
        except ClientError as taken:
            if taken.code != grpc.StatusCode.ALREADY_EXISTS:
                raise
            # By another indexer in the same moment, or by somebody who does not show it to this one.
            try:
                self._list_stored()
            except ClientError as error:
                raise (taken if error.code == grpc.StatusCode.NOT_FOUND else error) from error

    def _index_file(self, path: str, source: bytes, stream: ChunkStream) -> None:
        self.report.files_scanned += 1
        file_sha256 = hashlib.sha256(source).digest()
        same = [version for version in self._stored.get(path, ()) if version.file_sha256 == file_sha256]
        if any(_is_complete(version) for version in same):
            self.report.files_unchanged += 1
            self._delete_old(path, file_sha256)
            self._progress.file_done(path)
            return
        chunks = list(self._chunks(path, source, file_sha256))
        if any(version.file_chunk_count != len(chunks) for version in same):
            # Left by an interrupted run that cut the file otherwise: the two would never make a complete version.
            # An old version that is complete stays findable until the new one is.
            old = [version for version in self._stored[path] if version not in same and _is_complete(version)]
            selector = _Selector(path=path, keep_file_sha256=old[0].file_sha256 if old else b"")
            self.report.chunks_deleted += self._client.delete_files(self._codebase_id, [selector])
            self._stored[path] = old[:1]
        if not chunks:
            self.report.files_without_chunks += 1
            self._delete_old(path, file_sha256)
            self._progress.file_done(path)
            return
        self._sending[path] = _FileState(file_sha256, waiting=len(chunks))
        for chunk in chunks:
            item_id = str(next(self._item_ids))
            stream.send(
                index_pb.IndexChunksRequest(codebase_id=self._codebase_id, item_id=item_id, chunk=chunk, truncate=True)
            )

    def _chunks(self, path: str, source: bytes, file_sha256: bytes) -> Iterator[chunk_pb.Chunk]:
        chunks = chunk_file(path, source, max_chars=self._max_chars)
        for ordinal, chunk in enumerate(chunks):
            yield chunk_pb.Chunk(
                path=path,
                language=chunk.language,
                symbol=chunk.symbol,
                kind=chunk.kind,
                start_line=chunk.start_line,
                end_line=chunk.end_line,
                content=chunk.content,
                file_sha256=file_sha256,
                ordinal=ordinal,
                file_chunk_count=len(chunks),
            )

    def _finish_file(self, path: str, state: _FileState) -> None:
        if state.failed:
            # The old version stays findable until the new one is complete.
            self.report.files_incomplete += 1
        else:
            self.report.files_changed += 1
            self._delete_old(path, state.file_sha256)
        self._progress.file_done(path)

    def _delete_old(self, path: str, keep_file_sha256: bytes) -> None:
        if any(version.file_sha256 != keep_file_sha256 for version in self._stored.get(path, ())):
            self._deletions.append(_Selector(path=path, keep_file_sha256=keep_file_sha256))
            self._delete(at_least=_SELECTORS_PER_CALL)

    def _remove_gone(self, kept: set[str], unreadable: list[str]) -> None:
        """Delete files that are stored and not in the tree; what could not be looked at is not taken for gone."""
        for path in self._stored.keys() - kept:
            if any(path == lost or (lost.endswith("/") and path.startswith(lost)) for lost in unreadable):
                continue
            self.report.files_removed += 1
            self._deletions.append(_Selector(path=path))
            self._delete(at_least=_SELECTORS_PER_CALL)

    def _delete(self, *, at_least: int) -> None:
        if len(self._deletions) >= at_least:
            deletions, self._deletions = self._deletions, []
            self.report.chunks_deleted += self._client.delete_files(self._codebase_id, deletions)

    def _skip(self, skipped: SkippedFile) -> None:
        self.report.skipped[skipped.reason] += 1
        examples = self.report.skipped_examples.setdefault(skipped.reason, [])
        if len(examples) < _EXAMPLES_KEPT:
            examples.append(skipped.path)


def _is_complete(version: index_pb.FileVersion) -> bool:
    return version.stored_chunk_count == version.file_chunk_count


def _code_name(code: int) -> str:
    names = {status.value[0]: status.name for status in grpc.StatusCode}
    return names.get(code, str(code))
