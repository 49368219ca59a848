"""IndexService: chunks in, stored with their vectors."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc

from duovec.v1 import index_service_pb2 as pb
from duovec.v1 import index_service_pb2_grpc as pb_grpc
from gateway.errors import InvalidInput, NotFound, SpaceMismatch
from gateway.rpc import paging, validation
from gateway.rpc.admission import Admission
from gateway.rpc.chunk_indexing import ChunkIndexer, Indexed, Item
from gateway.rpc.chunk_messages import chunk_message
from gateway.rpc.interceptors import status_of
from gateway.rpc.quotas import Quotas
from gateway.rpc.streaming import in_batches
from gateway.spaces.filling import BesideFiller
from gateway.spaces.serving import Serving
from gateway.store.access import Role
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.rows import FileSelector
from gateway.store.space_vectors import SpaceVectorStore

Context = grpc.aio.ServicerContext[Any, Any]

MAX_SELECTORS = 1000
MAX_VERSIONS = 100
MAX_NEIGHBORS = 20

_DISPOSITIONS = {
    "EMBEDDED": pb.IndexedChunk.DISPOSITION_EMBEDDED,
    "REUSED": pb.IndexedChunk.DISPOSITION_REUSED,
    "UNCHANGED": pb.IndexedChunk.DISPOSITION_UNCHANGED,
}


class IndexServicer(pb_grpc.IndexServiceServicer):
    """Translates between the protos, the embedder and the store."""

    def __init__(
        self,
        serving: Serving,
        chunks: ChunkStore,
        vectors: SpaceVectorStore,
        codebases: CodebaseStore,
        admission: Admission,
        quotas: Quotas,
        *,
        timeout_s: float,
        on_indexed: Callable[[], None],
    ) -> None:
        """Write into the active space.

        Args:
            serving: Which that is.
            chunks: Where chunks go.
            vectors: Where their vectors go in the spaces beside the active one.
            codebases: Where codebases are looked up.
            admission: Bounds the open streams, and what of them is in work.
            quotas: Slow down who sends more than it may.
            timeout_s: Budget of one batch, and of a unary call, seconds.
            on_indexed: Called when a stream has ended.
        """
        self._serving = serving
        self._chunks = chunks
        self._indexer = ChunkIndexer(
            serving, chunks, BesideFiller(vectors, serving), admission, quotas, timeout_s=timeout_s
        )
        self._codebases = codebases
        self._admission = admission
        self._timeout_s = timeout_s
        self._on_indexed = on_indexed

    async def IndexChunks(  # noqa: N802
        self, requests: AsyncIterator[pb.IndexChunksRequest], context: Context
    ) -> AsyncIterator[pb.IndexChunksResponse]:
        """Embed and store chunks as they come, with a reply for every item after its commit."""
        async with self._admission.stream() as stream:
            received = stream.reading(requests)
            first = await anext(received, None)
            if first is None:
                return
            codebase_id = validation.codebase_id(first.codebase_id)
            codebase_key = await self._key(codebase_id, role="WRITE")

            async def answer(batch: list[pb.IndexChunksRequest]) -> list[pb.IndexChunksResponse]:
                # Asked again for every batch: a key or a role that is taken away ends a stream that is open, too.
                if await self._key(codebase_id, role="WRITE") != codebase_key:
                    # Its caller takes for stored what went with the old one.
                    raise NotFound(f"codebase {codebase_id!r} was deleted and made anew since the stream began")
                return await self._answer(first, codebase_key, batch)

            try:
                async for response in in_batches(
                    _chain(first, received), answer, size_bytes=pb.IndexChunksRequest.ByteSize
                ):
                    yield response
                    stream.answered()
            finally:
                self._on_indexed()

    async def _answer(
        self, first: pb.IndexChunksRequest, codebase_key: int, requests: Sequence[pb.IndexChunksRequest]
    ) -> list[pb.IndexChunksResponse]:
        responses: list[pb.IndexChunksResponse] = []
        items: list[Item] = []
        for request in requests:
            try:
                item = _item(first, request)
                await self._serving.expect(request.space)
                items.append(item)
            except (InvalidInput, SpaceMismatch) as exc:
                responses.append(pb.IndexChunksResponse(item_id=request.item_id, error=status_of(exc)))
        outcomes = await self._indexer.index(codebase_key, items, update_number=first.update_number)
        for item, outcome in zip(items, outcomes, strict=True):
            if isinstance(outcome, Indexed):
                indexed = pb.IndexedChunk(
                    chunk_id=outcome.stored.chunk_id,
                    disposition=_DISPOSITIONS[outcome.stored.disposition],
                    truncated=outcome.truncated,
                )
                responses.append(pb.IndexChunksResponse(item_id=item.item_id, indexed=indexed))
            else:
                responses.append(pb.IndexChunksResponse(item_id=item.item_id, error=status_of(outcome)))
        return responses

    async def ListFiles(self, request: pb.ListFilesRequest, context: Context) -> pb.ListFilesResponse:  # noqa: N802
        """List the stored versions of files."""
        page_size = validation.page_size(request.page_size, default=1000, limit=10_000)
        codebase_key = await self._key(request.codebase_id, role="READ")
        path, digest = paging.decode_for(request, 2) or ("", "")
        try:
            after = (path, bytes.fromhex(digest)) if request.page_token else None
        except ValueError as exc:
            raise paging.foreign_token() from exc
        files = await self._chunks.list_files(
            codebase_key, self._serving.active.space_key, after, page_size + 1, timeout_s=self._timeout_s
        )
        more = len(files) > page_size
        files = files[:page_size]
        return pb.ListFilesResponse(
            files=[
                pb.FileVersion(
                    path=file.path,
                    file_sha256=file.file_sha256,
                    stored_chunk_count=file.stored_chunk_count,
                    file_chunk_count=file.file_chunk_count,
                )
                for file in files
            ],
            next_page_token=paging.encode_for(request, files[-1].path, files[-1].file_sha256.hex()) if more else "",
        )

    async def GetChunk(self, request: pb.GetChunkRequest, context: Context) -> pb.GetChunkResponse:  # noqa: N802
        """Get a chunk and those around it."""
        if not 0 <= request.neighbor_count <= MAX_NEIGHBORS:
            raise InvalidInput("neighbor_count", f"is {request.neighbor_count}; use 0 to {MAX_NEIGHBORS}")
        codebase_key = await self._key(request.codebase_id, role="READ")
        rows = await self._chunks.get_with_neighbors(
            codebase_key, request.chunk_id, request.neighbor_count, timeout_s=self._timeout_s
        )
        chunks = [pb.StoredChunk(chunk_id=chunk_id, chunk=chunk_message(row)) for chunk_id, row in rows.items()]
        at = list(rows).index(request.chunk_id)
        return pb.GetChunkResponse(chunk=chunks[at], chunks_before=chunks[:at], chunks_after=chunks[at + 1 :])

    async def DeleteChunks(  # noqa: N802
        self, request: pb.DeleteChunksRequest, context: Context
    ) -> pb.DeleteChunksResponse:
        """Delete the chunks of files."""
        if not 1 <= len(request.files) <= MAX_SELECTORS:
            raise InvalidInput("files", f"has {len(request.files)} items; send 1 to {MAX_SELECTORS}")
        selectors: dict[str, FileSelector] = {}
        for index, selector in enumerate(request.files):
            field = f"files[{index}]"
            one = _selector(field, selector)
            if one.path in selectors:
                # Each would delete the version that the other keeps.
                raise InvalidInput(f"{field}.path", f"is {one.path[:80]!r} a second time; send one selector a path")
            selectors[one.path] = one
        codebase_key = await self._key(request.codebase_id, role="WRITE")
        count = await self._chunks.delete_files(
            codebase_key,
            list(selectors.values()),
            update_number=request.update_number,
            timeout_s=self._timeout_s,
        )
        return pb.DeleteChunksResponse(deleted_chunk_count=count)

    async def _key(self, codebase_id: str, *, role: Role) -> int:
        return await self._codebases.get_key(validation.codebase_id(codebase_id), role=role, timeout_s=self._timeout_s)


def _selector(field: str, selector: pb.DeleteChunksRequest.FileSelector) -> FileSelector:
    keep, count = selector.keep_file_sha256, selector.keep_file_chunk_count
    if count < 0 or (count and not keep):
        raise InvalidInput(f"{field}.keep_file_chunk_count", f"is {count}; 1 or more, beside a keep_file_sha256")
    if len(selector.delete_file_sha256) > MAX_VERSIONS:
        raise InvalidInput(
            f"{field}.delete_file_sha256", f"has {len(selector.delete_file_sha256)} items; send {MAX_VERSIONS} at most"
        )
    return FileSelector(
        validation.path(f"{field}.path", selector.path),
        validation.sha256(f"{field}.keep_file_sha256", keep) if keep else None,
        count or None,
        [
            validation.sha256(f"{field}.delete_file_sha256[{number}]", version)
            for number, version in enumerate(selector.delete_file_sha256)
        ],
    )


def _item(first: pb.IndexChunksRequest, request: pb.IndexChunksRequest) -> Item:
    validation.label("item_id", request.item_id, limit=validation.MAX_ITEM_ID_CHARS, required=True)
    if request.codebase_id != first.codebase_id:
        raise InvalidInput(
            "codebase_id",
            f"is {request.codebase_id[:80]!r} in a stream of {first.codebase_id!r}; open a stream a codebase",
        )
    if request.update_number != first.update_number:
        raise InvalidInput(
            "update_number",
            f"is {request.update_number} in a stream of update {first.update_number}; open a stream an update",
        )
    row, passage = validation.chunk("chunk", request.chunk)
    return Item(request.item_id, row, passage, request.truncate, request.space)


async def _chain(
    first: pb.IndexChunksRequest, rest: AsyncIterator[pb.IndexChunksRequest]
) -> AsyncIterator[pb.IndexChunksRequest]:
    yield first
    async for request in rest:
        yield request
