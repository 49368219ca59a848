"""More than the encoders can do at once: callers are told when to come back, and streams wait in line."""

import asyncio
import hashlib
import inspect
import random
import statistics
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import grpc
import pytest
from chunk_streams import index_chunks
from fault_caller import API_KEY, METADATA
from fault_site import Backends, serving
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from duovec.v1 import chunk_pb2, embedding_service_pb2, index_service_pb2, vector_pb2
from duovec.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from gateway.client.client import Client

pytestmark = pytest.mark.alone

CALLERS, STREAMS, CHUNKS = 40, 16, 64
FUNCTIONS = [
    inspect.getsource(function)
    for module in (statistics, random, textwrap, inspect)
    for _, function in inspect.getmembers(module, inspect.isfunction)
]


Start = Callable[[float], AbstractAsyncContextManager[str]]


@pytest.fixture
def start(backends: Backends, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Runs a gateway that takes 4,096 tokens at once, less than a fifth of a second's work of two cores."""
    monkeypatch.setattr("gateway.rpc.admission.BULK_TOKENS", 4096)

    @asynccontextmanager
    async def start(request_timeout_s: float) -> AsyncIterator[str]:
        async with serving(
            backends.postgres,
            backends.triton,
            backends.repository,
            database_url,
            max_pending_tokens=4096,
            request_timeout_s=request_timeout_s,
            cache_max_texts=0,
        ) as parts:
            yield parts.endpoint

    return start


async def embed_at_last(stub: EmbeddingServiceStub, caller: int) -> list[float]:
    """Call until it is answered, each time after the delay that was told; gives the delays."""
    texts = [FUNCTIONS[(caller * 7 + number) % len(FUNCTIONS)] for number in range(4)]
    request = embedding_service_pb2.EmbedRequest(texts=texts, input_type=vector_pb2.INPUT_TYPE_PASSAGE, truncate=True)
    delays: list[float] = []
    while True:
        call = stub.Embed(request, metadata=METADATA)
        try:
            response = await call
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            delays.append(await told_delay_s(call))
            await asyncio.sleep(delays[-1] * random.uniform(1.0, 1.25))
        else:
            assert len(response.embeddings) == len(texts)
            return delays


async def told_delay_s(call: grpc.aio.UnaryUnaryCall) -> float:
    status = await rpc_status.aio.from_call(call)
    assert status is not None
    info = error_details_pb2.RetryInfo()
    (detail,) = [one for one in status.details if one.Is(info.DESCRIPTOR)]
    detail.Unpack(info)
    return info.retry_delay.ToMilliseconds() / 1000


async def test_who_comes_back_when_told_is_answered(start: Start) -> None:
    """Six times as many tokens as are taken at once; the first call is alone, so that the rate is known."""
    async with start(60) as endpoint, grpc.aio.insecure_channel(endpoint) as channel:
        stub = EmbeddingServiceStub(channel)
        assert await embed_at_last(stub, 0) == []
        delays = await asyncio.gather(*(embed_at_last(stub, caller) for caller in range(CALLERS)))
    refused = [one for one in delays if one]
    assert len(refused) > CALLERS / 4
    # Were all told the same time, the last would be refused about as often as there are others.
    assert statistics.median(len(one) for one in refused) <= 2
    assert min(min(one) for one in refused) < max(max(one) for one in refused) / 3


def chunks_of(stream: int) -> Iterator[index_service_pb2.IndexChunksRequest]:
    """Chunks that no other stream has."""
    for number in range(CHUNKS):
        content = f"# stream {stream}, chunk {number}\n" + FUNCTIONS[number % len(FUNCTIONS)][:400]
        yield index_service_pb2.IndexChunksRequest(
            codebase_id="crowded",
            item_id=str(number),
            truncate=True,
            chunk=chunk_pb2.Chunk(
                path=f"{stream}/{number}.py",
                language="python",
                kind="text",
                start_line=1,
                end_line=9,
                content=content,
                file_sha256=hashlib.sha256(content.encode()).digest(),
                file_chunk_count=1,
            ),
        )


async def test_parallel_indexers_wait_for_their_turn(start: Start) -> None:
    """Together they take twice as long as a batch may, on any machine: none fails since it waited for others."""

    def index(endpoint: str, stream: int) -> list[str]:
        with Client(endpoint, api_key=API_KEY) as client:
            return [str(reply.WhichOneof("outcome")) for reply in index_chunks(client, chunks_of(stream))]

    async with start(60) as endpoint:
        with Client(endpoint, api_key=API_KEY) as client:
            await asyncio.to_thread(client.create_codebase, "crowded")
        begun = time.monotonic()
        await asyncio.to_thread(index, endpoint, STREAMS)
        alone_s = time.monotonic() - begun
    async with start(STREAMS / 2 * alone_s) as endpoint:
        loop = asyncio.get_running_loop()
        # Threads of their own: the gateway needs those of the loop.
        with ThreadPoolExecutor(STREAMS) as pool:
            outcomes = await asyncio.gather(
                *(loop.run_in_executor(pool, index, endpoint, stream) for stream in range(STREAMS))
            )
        assert outcomes == [["indexed"] * CHUNKS] * STREAMS
        with Client(endpoint, api_key=API_KEY) as client:
            found = await asyncio.to_thread(client.get_codebase, "crowded")
        assert found.chunk_count == (STREAMS + 1) * CHUNKS
