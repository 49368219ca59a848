"""One run of an indexer: files in, chunks sent, old versions deleted once the new ones are complete."""

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc

from duovec.v1 import index_service_pb2 as index_pb
from gateway.client.chunk_messages import chunk_messages
from gateway.client.chunking import DEFAULT_MAX_CHARS
from gateway.client.client import AsyncClient
from gateway.client.codebases import INDEX_CHUNKS
from gateway.client.errors import ClientError
from gateway.client.files import SkippedFile
from gateway.client.report import ChunkFailure, IndexReport, NoProgress, Progress
from gateway.client.stored_versions import UNKNOWN, StoredVersion, StoredVersions, pack, unpack
from gateway.client.stream import ItemStream

_Selector = index_pb.DeleteChunksRequest.FileSelector
_SELECTORS_PER_CALL = 1000
_VERSIONS_PER_CALL = 100
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


@dataclass(slots=True)
class _FileState:
    """A file whose chunks are on the way."""

    file_sha256: bytes
    chunk_count: int
    waiting: int
    failed: bool = False


class IndexRun:
    """Sends files, and deletes others; for use in an `async with`, where ClientError becomes IndexingFailed.

    Nothing is sent of a file that the server has in full. Old versions of a file are deleted once the new one is
    complete. All methods belong to one task.

    Attributes:
        report: What was done so far.
        stored: What the server has. Where it was handed in, it is kept up to date with what this run does; else a file
            that is done is forgotten, and a new one not noted.
        offload: Calls a function without holding up others.
    """

    def __init__(
        self,
        client: AsyncClient,
        codebase_id: str,
        *,
        stored: StoredVersions | None = None,
        update_number: int = 0,
        max_chars: int = DEFAULT_MAX_CHARS,
        window: int = 512,
        stall_timeout_s: float = 600.0,
        progress: Progress | None = None,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            client: Where to.
            codebase_id: The codebase.
            stored: What the server has of the files that will be taken or removed; None, then call `load_stored`.
            update_number: The update that this is, of `begin_update`; 0 for none.
            max_chars: Longest chunk, characters.
            window: Chunks at most on the way.
            stall_timeout_s: How long to wait for any reply to a chunk, seconds.
            progress: Told of what happens.
        """
        self.report = IndexReport(codebase_id)
        self.stored = stored if stored is not None else {}
        self._is_stored_kept = stored is not None
        self.progress = progress or NoProgress()
        self._codebase_id = codebase_id
        self._update_number = update_number
        self._max_chars = max_chars
        self.offload = client._connection.transport.offload
        self._stream: ItemStream[index_pb.IndexChunksRequest, index_pb.IndexChunksResponse] = ItemStream(
            client._connection,
            INDEX_CHUNKS,
            self._on_reply,
            window=window,
            stall_timeout_s=stall_timeout_s,
            on_pause=self.progress.waiting,
        )
        self._client = AsyncClient._over(client._connection.patient(self._stream.patience_s, self.progress.waiting))
        self._sending: dict[str, _FileState] = {}
        self._deletions: list[_Selector] = []
        self._started = time.monotonic()

    async def __aenter__(self) -> Self:
        """Give the run itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the call; what is unanswered is given up."""
        await self._stream.close()
        self.report.elapsed_s = time.monotonic() - self._started
        if isinstance(error, ClientError):
            raise IndexingFailed(error, self.report) from error

    async def load_stored(self) -> None:
        """Ask what the server has, and create the codebase where it is missing."""
        try:
            await self._list_stored()
        except ClientError as error:
            if error.code != grpc.StatusCode.NOT_FOUND:
                raise
            self.stored.clear()  # a codebase that was deleted while its files were listed
            await self._create_codebase()

    async def take(self, path: str, source: bytes | SkippedFile) -> bool:
        """Send what the server lacks of a file.

        Args:
            path: Path in the codebase.
            source: Its bytes, or why it is skipped, which is reported.

        Returns:
            Whether the file belongs into the codebase; what is stored of one that does not may be given to `remove`.
        """
        if isinstance(source, SkippedFile):
            self.skip(source)
            self.progress.file_done(path)
            return False
        await self._index_file(path, source)
        return True

    def skip(self, skipped: SkippedFile) -> None:
        """Report a file that is not indexed."""
        self.report.skipped[skipped.reason] += 1
        examples = self.report.skipped_examples.setdefault(skipped.reason, [])
        if len(examples) < _EXAMPLES_KEPT:
            examples.append(skipped.path)

    async def drain(self) -> None:
        """Wait until all that was sent is answered."""
        await self._stream.drain()

    async def remove(self, paths: Iterable[str]) -> None:
        """Delete files that are stored."""
        for path in paths:
            if (stored := self.stored.pop(path, None)) is not None:
                self.report.files_removed += 1
                self._deletions.append(_selector(path, unpack(stored)))
                await self._delete(at_least=_SELECTORS_PER_CALL)

    async def finish(self) -> None:
        """Wait until all that was sent is answered, and all that is to go is deleted."""
        await self.drain()
        await self._delete(at_least=1)

    async def _on_reply(self, request: index_pb.IndexChunksRequest, reply: index_pb.IndexChunksResponse) -> None:
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
        self.progress.chunk_done()
        state.waiting -= 1
        if state.waiting == 0:
            await self._finish_file(chunk.path, self._sending.pop(chunk.path))

    async def _list_stored(self) -> None:
        async for version in self._client.list_files(self._codebase_id):
            is_complete = version.stored_chunk_count == version.file_chunk_count
            packed = pack([StoredVersion(version.file_sha256, version.file_chunk_count, is_complete)])
            self.stored[version.path] = self.stored.get(version.path, b"") + packed

    async def _create_codebase(self) -> None:
        try:
            await self._client.create_codebase(self._codebase_id)
            self.report.created = True
        except ClientError as taken:
            if taken.code != grpc.StatusCode.ALREADY_EXISTS:
                raise
            # By another indexer in the same moment, or by somebody who does not show it to this one.
            try:
                await self._list_stored()
            except ClientError as error:
                raise (taken if error.code == grpc.StatusCode.NOT_FOUND else error) from error

    async def _index_file(self, path: str, source: bytes) -> None:
        self.report.files_scanned += 1
        file_sha256 = hashlib.sha256(source).digest()
        stored = unpack(self.stored.get(path, b""))
        same = [version for version in stored if version.file_sha256 == file_sha256]
        if any(version.is_complete for version in same):
            self.report.files_unchanged += 1
            await self._delete_old(path, same[0])
            self.progress.file_done(path)
            return
        chunks = await self.offload(chunk_messages, path, source, file_sha256, max_chars=self._max_chars)
        if not chunks:
            self.report.files_without_chunks += 1
            await self._delete_old(path, None)
            self.progress.file_done(path)
            return
        self._sending[path] = _FileState(file_sha256, len(chunks), waiting=len(chunks))
        for chunk in chunks:
            await self._stream.send(
                index_pb.IndexChunksRequest(
                    codebase_id=self._codebase_id, chunk=chunk, truncate=True, update_number=self._update_number
                )
            )

    async def _finish_file(self, path: str, state: _FileState) -> None:
        if state.failed:
            # The old version stays findable until the new one is complete.
            self.report.files_incomplete += 1
        else:
            self.report.files_changed += 1
            await self._delete_old(path, StoredVersion(state.file_sha256, state.chunk_count, is_complete=True))
        self.progress.file_done(path)

    async def _delete_old(self, path: str, kept: StoredVersion | None) -> None:
        """Delete the versions of a file that were there, and of the one that is kept what is of another cut."""
        seen = unpack(self.stored.get(path, b""))
        if any(kept is None or version[:2] != kept[:2] for version in seen):
            selector = _selector(path, seen)
            if kept:
                selector.keep_file_sha256, selector.keep_file_chunk_count = kept.file_sha256, kept.chunk_count
            self._deletions.append(selector)
            await self._delete(at_least=_SELECTORS_PER_CALL)
        if kept and self._is_stored_kept:
            self.stored[path] = pack([kept])
        else:
            self.stored.pop(path, None)

    async def _delete(self, *, at_least: int) -> None:
        if len(self._deletions) >= at_least:
            deletions, self._deletions = self._deletions, []
            await self._delete_files(deletions)

    async def _delete_files(self, selectors: list[_Selector]) -> None:
        self.report.chunks_deleted += await self._client.delete_files(
            self._codebase_id, selectors, update_number=self._update_number
        )


def _selector(path: str, seen: list[StoredVersion]) -> _Selector:
    """What deletes the versions that were seen, by their hashes: another indexer may have stored a newer one since."""
    # More than the service takes at once is left to the next run.
    hashes = [] if UNKNOWN in seen else [version.file_sha256 for version in seen[:_VERSIONS_PER_CALL]]
    return _Selector(path=path, delete_file_sha256=hashes)


def _code_name(code: int) -> str:
    names = {status.value[0]: status.name for status in grpc.StatusCode}
    return names.get(code, str(code))
