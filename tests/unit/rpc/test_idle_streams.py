"""A caller whose stream is idle is told so when another needs its place, over real gRPC."""

# ruff: noqa: N802 - the methods are named after the RPCs.

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from duovec.v1 import embedding_service_pb2 as pb
from duovec.v1 import embedding_service_pb2_grpc as pb_grpc
from gateway.embedding.meter import TokenMeter
from gateway.rpc import admission as admission_module
from gateway.rpc.admission import Admission
from gateway.rpc.interceptors import ErrorInterceptor
from gateway.rpc.streaming import in_batches

WAIT_S = 30.0


class Servicer(pb_grpc.EmbeddingServiceServicer):
    """Answers each item, within one place for streams."""

    def __init__(self) -> None:
        self.admission = Admission(TokenMeter(), max_pending_tokens=1000, max_streams=1)

    async def StreamEmbed(self, requests: Any, context: Any) -> AsyncIterator[pb.StreamEmbedResponse]:
        async with self.admission.stream() as stream:
            async for response in in_batches(stream.reading(requests), self._answer, size_bytes=lambda _: 1):
                yield response
                stream.answered()

    async def _answer(self, requests: Sequence[pb.StreamEmbedRequest]) -> list[pb.StreamEmbedResponse]:
        return [pb.StreamEmbedResponse(item_id=request.item_id) for request in requests]


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
async def stub(servicer: Servicer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[pb_grpc.EmbeddingServiceStub]:
    """Of a server that takes a stream for idle a moment after nothing of it is in work any more."""
    monkeypatch.setattr(admission_module, "IDLE_S", 1e-9)
    server = grpc.aio.server(interceptors=[ErrorInterceptor(timeout_s=WAIT_S)])
    pb_grpc.add_EmbeddingServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield pb_grpc.EmbeddingServiceStub(channel)
    await server.stop(None)


async def admitted(stub: Any, item_id: str) -> Any:
    """A call whose first item was answered; the one before may still be handing its last reply over."""
    while True:
        call = stub.StreamEmbed()
        # A write to a call that was refused already is an invalid state.
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(pb.StreamEmbedRequest(item_id=item_id))
            assert (await call.read()).item_id == item_id
            return call
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_idle_stream_is_ended_for_another_that_comes(stub: Any, servicer: Servicer) -> None:
    """Before its first item as between two: each stream here takes the place of the one before."""
    async with asyncio.timeout(WAIT_S):
        calls = [stub.StreamEmbed()]
        while not servicer.admission.stream_count:
            await asyncio.sleep(0.001)
        for number in range(3):
            calls.append(await admitted(stub, f"item {number}"))  # noqa: PERF401 - one after the other
        for call in calls[:-1]:
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
            status = status_pb2.Status.FromString(dict(await call.trailing_metadata())["grpc-status-details-bin"])
            info = error_details_pb2.ErrorInfo()
            status.details[0].Unpack(info)
            assert info.reason == "STREAM_IDLE"
        await calls[-1].done_writing()
        assert await calls[-1].read() is grpc.aio.EOF
        assert await calls[-1].code() is grpc.StatusCode.OK
