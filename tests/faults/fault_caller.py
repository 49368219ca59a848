"""The calls that the fault tests make, with their errors decoded."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from duovec.v1 import (
    chunk_pb2,
    codebase_service_pb2,
    codebase_service_pb2_grpc,
    embedding_service_pb2,
    embedding_service_pb2_grpc,
    index_service_pb2,
    index_service_pb2_grpc,
    search_service_pb2,
    search_service_pb2_grpc,
    vector_pb2,
)
from gateway.client.errors import ClientError, from_rpc_error
from gateway.local.postgres import Postgres
from gateway.local.triton import Triton

# What grpc.aio itself says, as INTERNAL, of a stream whose connection was lost under a write; no server said it.
_LOST_WHILE_WRITING = "Internal error from Core"
T = TypeVar("T")
API_KEY = f"duovec_faulttests01_{'0f' * 32}"
METADATA = (("authorization", f"Bearer {API_KEY}"),)
SERVING = health_pb2.HealthCheckResponse.SERVING


def chunk_request(codebase_id: str, number: int) -> index_service_pb2.IndexChunksRequest:
    """One distinct chunk."""
    content = f"def function_{number}(value):\n    return value * {number}\n"
    return index_service_pb2.IndexChunksRequest(
        codebase_id=codebase_id,
        item_id=str(number),
        chunk=chunk_pb2.Chunk(
            path=f"{number}.py",
            language="python",
            symbol=f"function_{number}",
            kind="function",
            start_line=1,
            end_line=2,
            content=content,
            file_sha256=hashlib.sha256(content.encode()).digest(),
            ordinal=0,
            file_chunk_count=1,
        ),
    )


@dataclass
class Parts:
    """What can be broken, and where the gateway listens."""

    postgres: Postgres
    triton: Triton
    endpoint: str
    database_url: str


class Caller:
    """Every call with a deadline, on one channel."""

    def __init__(self, channel: grpc.aio.Channel, endpoint: str, *, api_key: str = API_KEY) -> None:
        self._endpoint = endpoint
        self._metadata = (("authorization", f"Bearer {api_key}"),)
        self._embedding = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        self._index = index_service_pb2_grpc.IndexServiceStub(channel)
        self._search = search_service_pb2_grpc.SearchServiceStub(channel)
        self._codebases = codebase_service_pb2_grpc.CodebaseServiceStub(channel)
        self._health = health_pb2_grpc.HealthStub(channel)

    async def _decoded(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error, self._endpoint)
            if error.details() == _LOST_WHILE_WRITING:
                failure.code = grpc.StatusCode.UNAVAILABLE
            raise failure from error

    async def embed(
        self,
        texts: list[str],
        *,
        input_type: vector_pb2.InputType = vector_pb2.INPUT_TYPE_PASSAGE,
        timeout_s: float = 10,
    ) -> embedding_service_pb2.EmbedResponse:
        request = embedding_service_pb2.EmbedRequest(texts=texts, input_type=input_type)
        return await self._decoded(self._embedding.Embed(request, timeout=timeout_s, metadata=self._metadata))

    async def search(self, codebase_id: str, query: str, *, timeout_s: float = 10) -> search_service_pb2.SearchResponse:
        request = search_service_pb2.SearchRequest(codebase_ids=[codebase_id], query=query)
        return await self.search_by(request, timeout_s=timeout_s)

    async def search_by(
        self, request: search_service_pb2.SearchRequest, *, timeout_s: float = 10
    ) -> search_service_pb2.SearchResponse:
        return await self._decoded(self._search.Search(request, timeout=timeout_s, metadata=self._metadata))

    async def create(self, codebase_id: str) -> None:
        request = codebase_service_pb2.CreateCodebaseRequest(codebase_id=codebase_id)
        await self._decoded(self._codebases.CreateCodebase(request, timeout=10, metadata=self._metadata))

    async def chunk_count(self, codebase_id: str) -> tuple[int, int]:
        """Chunks with and without a vector."""
        request = codebase_service_pb2.GetCodebaseRequest(codebase_id=codebase_id)
        codebase = (
            await self._decoded(self._codebases.GetCodebase(request, timeout=10, metadata=self._metadata))
        ).codebase
        return codebase.chunk_count, codebase.pending_chunk_count

    async def index(
        self, requests: Iterable[index_service_pb2.IndexChunksRequest], *, timeout_s: float = 60
    ) -> list[index_service_pb2.IndexChunksResponse]:
        async def replies() -> list[index_service_pb2.IndexChunksResponse]:
            call = self._index.IndexChunks(iter(list(requests)), timeout=timeout_s, metadata=self._metadata)
            return [reply async for reply in call]

        return await self._decoded(replies())

    async def is_serving(self) -> bool:
        reply = await self._health.Check(health_pb2.HealthCheckRequest(), timeout=5)
        return bool(reply.status == SERVING)

    async def until_serving(self, serving: bool, *, timeout_s: float = 30) -> None:
        async with asyncio.timeout(timeout_s):
            while await self.is_serving() is not serving:
                await asyncio.sleep(0.05)


async def error_of(call: Callable[[], Awaitable[object]]) -> ClientError:
    """The error that a call ends with."""
    try:
        await call()
    except ClientError as error:
        return error
    raise AssertionError("the call succeeded")
