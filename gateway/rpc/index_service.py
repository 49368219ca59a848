"""IndexService: chunks in, stored with their vectors."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from duovec.v1 import index_service_pb2 as pb
from duovec.v1 import index_service_pb2_grpc as pb_grpc
from gateway.embedding.embedder import Embedder, TokenizedTexts
from gateway.embedding.space import InputType
from gateway.embedding.triton import Priority
from gateway.errors import DuovecError, InvalidInput, NotFound, SpaceMismatch
from gateway.rpc import paging, validation
from gateway.rpc.admission import Admission
from gateway.rpc.chunk_messages import chunk_message
from gateway.rpc.interceptors import status_of
from gateway.rpc.quotas import Quotas
from gateway.rpc.streaming import in_batches
from gateway.spaces.filling import BesideFiller
from gateway.spaces.serving import ServedSpace, Serving
from gateway.store.access import Role
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.rows import ChunkRow, PendingChunk, StoredChunk
from gateway.store.space_vectors import SpaceVectorStore

Context = grpc.aio.ServicerContext[Any, Any]

MAX_SELECTORS = 1000
MAX_NEIGHBORS = 20

# Four times what ordinary code has for both encoders, so that only what they cut is counted by characters.
_CHARS_PER_TOKEN = 8

_DISPOSITIONS = {
    "EMBEDDED": pb.IndexedChunk.DISPOSITION_EMBEDDED,
    "REUSED": pb.IndexedChunk.DISPOSITION_REUSED,
    "UNCHANGED": pb.IndexedChunk.DISPOSITION_UNCHANGED,
}


@dataclass(frozen=True, slots=True)
class _Item:
    """A valid chunk on its way."""

    item_id: str
    row: ChunkRow
    passage: str
    truncate: bool
    space: str
    """Fingerprint of the space that its caller relies on; empty for any."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Items as an embedder reads them: the one that was active when they came."""

    items: Sequence[_Item]
    embedder: Embedder
    tokenized: TokenizedTexts

    @property
    def work_tokens(self) -> int:
        """What it costs: a text that the encoders read only the beginning of is held, and stored, to its end."""
        characters = sum(len(item.passage) for item in self.items)
        return max(self.tokenized.token_count, characters // _CHARS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of it."""

    stored: StoredChunk
    truncated: bool


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
        self._beside = BesideFiller(vectors, serving)
        self._codebases = codebases
        self._admission = admission
        self._quotas = quotas
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
                return await self._answer(codebase_id, codebase_key, batch)

            try:
                async for response in in_batches(
                    _chain(first, received), answer, size_bytes=pb.IndexChunksRequest.ByteSize
                ):
                    yield response
                    stream.answered()
            finally:
                self._on_indexed()

    async def _answer(
        self, codebase_id: str, codebase_key: int, requests: Sequence[pb.IndexChunksRequest]
    ) -> list[pb.IndexChunksResponse]:
        responses: list[pb.IndexChunksResponse] = []
        items: list[_Item] = []
        for request in requests:
            try:
                item = _item(codebase_id, request)
                await self._serving.expect(request.space)
                items.append(item)
            except (InvalidInput, SpaceMismatch) as exc:
                responses.append(pb.IndexChunksResponse(item_id=request.item_id, error=status_of(exc)))
        if not items:
            return responses
        embedder = self._serving.active.embedder
        batch = _Batch(items, embedder, await _tokenize(embedder, items))
        await self._quotas.wait(batch.tokenized.token_count)
        try:
            async with self._admission.turn(batch.work_tokens), self._serving.writing():
                async with asyncio.timeout(self._timeout_s):
                    outcomes = await self._serving.call(lambda space: self._store(space, codebase_key, batch))
                # What is new gets its vectors in the spaces beside the active one, too.
                await self._beside.fill(_new_chunks(codebase_key, items, outcomes), timeout_s=self._timeout_s)
        except NotFound:
            # The codebase is being deleted: no item of the stream can be stored any more.
            raise
        except (DuovecError, TimeoutError) as exc:
            outcomes = [exc] * len(items)
        for item, outcome in zip(items, outcomes, strict=True):
            if isinstance(outcome, _Outcome):
                indexed = pb.IndexedChunk(
                    chunk_id=outcome.stored.chunk_id,
                    disposition=_DISPOSITIONS[outcome.stored.disposition],
                    truncated=outcome.truncated,
                )
                responses.append(pb.IndexChunksResponse(item_id=item.item_id, indexed=indexed))
            else:
                responses.append(pb.IndexChunksResponse(item_id=item.item_id, error=status_of(outcome)))
        return responses

    async def _store(self, space: ServedSpace, codebase_key: int, batch: _Batch) -> list[_Outcome | Exception]:
        """Store a batch: what is there stays, what has a vector gets it, the rest is embedded."""
        items, tokenized = batch.items, batch.tokenized
        if batch.embedder is not space.embedder:
            tokenized = await _tokenize(space.embedder, items)
        outcomes: list[_Outcome | Exception | None] = [None] * len(items)
        rows = [item.row for item in items]
        existing = await self._chunks.find_existing(codebase_key, space.space_key, rows, timeout_s=self._timeout_s)
        reused: list[int] = []
        new: list[int] = []
        for index, item in enumerate(items):
            if error := space.mismatch(item.space):
                # Another space was activated since the item was looked at.
                outcomes[index] = error
                continue
            excess = space.embedder.excess(tokenized, index, "chunk.content")
            if excess is not None and not item.truncate:
                outcomes[index] = excess
            elif index in existing.unchanged:
                stored = StoredChunk(existing.unchanged[index], "UNCHANGED")
                outcomes[index] = _Outcome(stored, tokenized.is_truncated(index))
            elif item.row.text_sha256 in existing.reusable:
                reused.append(index)
            else:
                new.append(index)
        ids = await self._chunks.insert_reused(
            codebase_key, space.space_key, [rows[index] for index in reused], timeout_s=self._timeout_s
        )
        for index, chunk_id in zip(reused, ids, strict=True):
            if chunk_id is None:
                # The chunk that had this text was deleted meanwhile.
                new.append(index)
            else:
                outcomes[index] = _Outcome(StoredChunk(chunk_id, "REUSED"), tokenized.is_truncated(index))
        # Of texts that are the same in this batch one is embedded.
        embedded_at: dict[bytes, int] = {}
        for index in new:
            embedded_at.setdefault(rows[index].text_sha256, index)
        unique = list(embedded_at.values())
        if unique:
            vectors = await space.embedder.encode(
                tokenized.select(unique), priority=Priority.BULK, timeout_s=self._timeout_s
            )
            position = {rows[index].text_sha256: at for at, index in enumerate(unique)}
            good = []
            for index in new:
                bad_vector = vectors.errors.get(position[rows[index].text_sha256])
                if bad_vector is None:
                    good.append(index)
                else:
                    outcomes[index] = bad_vector
            chunk_ids = await self._chunks.insert(
                codebase_key,
                space.space_key,
                [rows[index] for index in good],
                vectors.vectors_BV[[position[rows[index].text_sha256] for index in good]],
                timeout_s=self._timeout_s,
            )
            for index, chunk_id in zip(good, chunk_ids, strict=True):
                outcomes[index] = _Outcome(StoredChunk(chunk_id, "EMBEDDED"), tokenized.is_truncated(index))
        return [outcome for outcome in outcomes if outcome is not None]

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
        kept: dict[str, bytes | None] = {}
        for index, selector in enumerate(request.files):
            field = f"files[{index}]"
            path, keep = validation.path(f"{field}.path", selector.path), selector.keep_file_sha256
            if path in kept:
                # Each would delete the version that the other keeps.
                raise InvalidInput(f"{field}.path", f"is {path[:80]!r} a second time; send one selector a path")
            kept[path] = validation.sha256(f"{field}.keep_file_sha256", keep) if keep else None
        codebase_key = await self._key(request.codebase_id, role="WRITE")
        count = await self._chunks.delete_files(codebase_key, list(kept.items()), timeout_s=self._timeout_s)
        return pb.DeleteChunksResponse(deleted_chunk_count=count)

    async def _key(self, codebase_id: str, *, role: Role) -> int:
        return await self._codebases.get_key(validation.codebase_id(codebase_id), role=role, timeout_s=self._timeout_s)


async def _tokenize(embedder: Embedder, items: Sequence[_Item]) -> TokenizedTexts:
    return await embedder.tokenize([item.passage for item in items], InputType.PASSAGE)


def _new_chunks(
    codebase_key: int, items: Sequence[_Item], outcomes: Sequence[_Outcome | Exception]
) -> list[PendingChunk]:
    return [
        PendingChunk(outcome.stored.chunk_id, codebase_key, item.row.symbol, item.row.content, item.row.text_sha256)
        for item, outcome in zip(items, outcomes, strict=True)
        if isinstance(outcome, _Outcome) and outcome.stored.disposition != "UNCHANGED"
    ]


def _item(codebase_id: str, request: pb.IndexChunksRequest) -> _Item:
    validation.label("item_id", request.item_id, limit=validation.MAX_ITEM_ID_CHARS, required=True)
    if request.codebase_id != codebase_id:
        raise InvalidInput(
            "codebase_id", f"is {request.codebase_id[:80]!r} in a stream of {codebase_id!r}; open a stream a codebase"
        )
    row, passage = validation.chunk("chunk", request.chunk)
    return _Item(request.item_id, row, passage, request.truncate, request.space)


async def _chain(
    first: pb.IndexChunksRequest, rest: AsyncIterator[pb.IndexChunksRequest]
) -> AsyncIterator[pb.IndexChunksRequest]:
    yield first
    async for request in rest:
        yield request
