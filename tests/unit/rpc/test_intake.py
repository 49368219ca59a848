"""Requests are received in their turn, after their caller is known, and refused unparsed where memory has no room."""

# ruff: noqa: N802 - the methods are named after the RPCs.

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from duovec.v1 import codebase_service_pb2 as pb
from duovec.v1 import codebase_service_pb2_grpc as pb_grpc
from gateway.errors import ApiKeyMissing
from gateway.rpc import intake as intake_module
from gateway.rpc.intake import Intake, IntakeInterceptor
from gateway.rpc.interceptors import ErrorInterceptor

current: ContextVar[int | None] = ContextVar("caller", default=None)

GET = "/duovec.v1.CodebaseService/GetCodebase"


class Servicer(pb_grpc.CodebaseServiceServicer):
    """Answers when it may, with as many characters as it got."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def GetCodebase(self, request: Any, context: Any) -> pb.GetCodebaseResponse:
        self.sizes.append(len(request.codebase_id))
        await self.may_answer.wait()
        return pb.GetCodebaseResponse()


class Callers(grpc.aio.ServerInterceptor):
    """Takes the metadata `caller` for a principal, and knows no other."""

    async def intercept_service(self, continuation: Callable[..., Awaitable[Any]], details: Any) -> Any:
        handler = await continuation(details)

        async def call(requests: Any, context: Any) -> Any:
            metadata = dict(context.invocation_metadata())
            if "caller" not in metadata:
                raise ApiKeyMissing("the call has no API key")
            current.set(int(metadata["caller"]))
            return await handler.stream_unary(requests, context)

        return grpc.stream_unary_rpc_method_handler(call, response_serializer=handler.response_serializer)


@pytest.fixture(autouse=True)
def callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Principals without a database."""
    monkeypatch.setattr(intake_module, "current_principal_key", current.get)


@asynccontextmanager
async def serving(intake: Intake) -> AsyncIterator[tuple[Servicer, grpc.aio.Channel]]:
    interceptors = (ErrorInterceptor(timeout_s=20), Callers(), IntakeInterceptor(intake))
    server = grpc.aio.server(interceptors=interceptors)
    servicer = Servicer()
    pb_grpc.add_CodebaseServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield servicer, channel
    finally:
        await server.stop(None)


def get(channel: grpc.aio.Channel, size: int, caller: str | None = "1") -> Any:
    metadata = () if caller is None else (("caller", caller),)
    return pb_grpc.CodebaseServiceStub(channel).GetCodebase(
        pb.GetCodebaseRequest(codebase_id="x" * size), metadata=metadata, timeout=30
    )


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_request_is_received_whole() -> None:
    intake = Intake()
    async with serving(intake) as (servicer, channel):
        await get(channel, 3_000_000)
        assert servicer.sizes == [3_000_000]
    assert intake.in_work.pending == 0


async def test_an_unknown_caller_is_refused_without_receiving() -> None:
    """Nothing of the request is held, or parsed: not even a call that never sends it waits for a place."""
    intake = Intake(at_once=1)
    async with serving(intake) as (servicer, channel):
        for _ in range(3):
            silent = channel.stream_unary(GET)()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await silent
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await get(channel, 3_000_000, caller=None)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert servicer.sizes == []


async def test_what_memory_has_no_room_for_is_refused_with_a_delay() -> None:
    """By its size; a small one goes on."""
    async with serving(Intake(bytes_in_work=10_000)) as (servicer, channel):
        servicer.may_answer.clear()
        first = asyncio.create_task(_done(get(channel, 8000)))
        await until(lambda: servicer.sizes == [8000])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await get(channel, 8000)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in status.details)
        servicer.may_answer.set()
        await get(channel, 100)
        await first
        await get(channel, 8000)


async def _done(call: Any) -> None:
    await call


async def test_a_caller_who_sends_slowly_takes_places_from_itself_alone() -> None:
    """Its own next call waits; that of another is received at once."""
    async with serving(Intake(at_once=2, at_once_of_one=1)) as (servicer, channel):
        slow = channel.stream_unary(GET)(metadata=(("caller", "1"),), timeout=30)
        await slow.wait_for_connection()
        await asyncio.sleep(0.2)
        waiting = asyncio.create_task(_done(get(channel, 1, caller="1")))
        await get(channel, 2, caller="2")
        assert servicer.sizes == [2]
        slow.cancel()
        await waiting
        assert servicer.sizes == [2, 1]


async def test_a_call_without_a_request_says_so() -> None:
    async with serving(Intake()) as (_, channel):
        call = channel.stream_unary(GET)(iter(()), metadata=(("caller", "1"),), timeout=30)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == "request: is missing; send one"
