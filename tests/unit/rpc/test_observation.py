"""What is seen of calls from outside, over real gRPC."""

# ruff: noqa: N802 - the methods are named after the RPCs.

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from recorded_spans import RecordedSpan

from duovec.v1 import codebase_service_pb2 as codebase_pb
from duovec.v1 import codebase_service_pb2_grpc as codebase_grpc
from duovec.v1 import embedding_service_pb2 as embedding_pb
from duovec.v1 import embedding_service_pb2_grpc as embedding_grpc
from gateway import errors
from gateway.rpc import observation
from gateway.rpc.intake import Intake, IntakeInterceptor
from gateway.rpc.interceptors import ErrorInterceptor
from gateway.rpc.observation import ObservingInterceptor
from gateway.telemetry import stages
from gateway.telemetry.logs import JsonFormatter
from gateway.telemetry.observer import Observer
from gateway.telemetry.requests import RequestStatistics
from gateway.telemetry.stages import Stage, stage

SECRET = "what nobody but its caller may read"


class Servicer(codebase_grpc.CodebaseServiceServicer, embedding_grpc.EmbeddingServiceServicer):
    """Fails as it is told, hangs on DeleteCodebase, and answers the items of a stream in one batch each."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def GetCodebase(self, request: Any, context: Any) -> codebase_pb.GetCodebaseResponse:
        with stage(Stage.DATABASE, "transaction"):
            await asyncio.sleep(0)
        if self.error:
            raise self.error
        return codebase_pb.GetCodebaseResponse()

    async def DeleteCodebase(self, request: Any, context: Any) -> codebase_pb.DeleteCodebaseResponse:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def StreamEmbed(self, requests: Any, context: Any) -> AsyncIterator[embedding_pb.StreamEmbedResponse]:
        async for request in requests:
            response = embedding_pb.StreamEmbedResponse(item_id=request.item_id)
            if request.item_id == "bad":
                response.error.code = 3

            async def answer() -> None:
                with stages.batch(1), stage(Stage.INFER):
                    await asyncio.sleep(0)

            await asyncio.create_task(answer())
            yield response
            if self.error:
                raise self.error


class Spans:
    """Traces every call."""

    def __init__(self) -> None:
        self.begun: list[RecordedSpan] = []

    def begin(self, method: str, metadata: Mapping[str, str]) -> RecordedSpan:
        self.begun.append(RecordedSpan(method, dict(metadata)))
        return self.begun[-1]

    begin_http = begin


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
def statistics() -> RequestStatistics:
    return RequestStatistics()


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
async def channel(servicer: Servicer, statistics: RequestStatistics, spans: Spans) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a real server whose calls may take 5 s."""
    observing = ObservingInterceptor(Observer(statistics, tracing=spans, log_requests=False))
    server = grpc.aio.server(interceptors=[observing, ErrorInterceptor(timeout_s=5), IntakeInterceptor(Intake())])
    codebase_grpc.add_CodebaseServiceServicer_to_server(servicer, server)
    embedding_grpc.add_EmbeddingServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


Get = Callable[..., Awaitable[grpc.aio.UnaryUnaryCall[Any, Any]]]


@pytest.fixture
def get(channel: grpc.aio.Channel, statistics: RequestStatistics) -> Get:
    """Calls GetCodebase; gives the call once the server, too, is done with it: its caller is told a moment before."""

    async def call_and_wait(**metadata: str) -> grpc.aio.UnaryUnaryCall[Any, Any]:
        pairs = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
        call = codebase_grpc.CodebaseServiceStub(channel).GetCodebase(
            codebase_pb.GetCodebaseRequest(codebase_id=SECRET), metadata=pairs
        )
        await call.code()
        await until_ended(statistics, "CodebaseService/GetCodebase")
        return call

    return call_and_wait


async def until_ended(statistics: RequestStatistics, method: str) -> None:
    """A call ends a moment after its caller was told."""
    while statistics.of(method).running_count or not statistics.of(method).code_counts:
        await asyncio.sleep(0.01)


async def test_calls_are_counted_by_method_and_code(
    get: Get, servicer: Servicer, statistics: RequestStatistics
) -> None:
    """With their duration, and the stages that they went through."""
    await get()
    servicer.error = errors.NotFound("no")
    await get()
    await get()
    seen = statistics.methods["CodebaseService/GetCodebase"]
    assert seen.code_counts == {"OK": 1, "NOT_FOUND": 2}
    assert (seen.durations.count, seen.running_count) == (3, 0)
    assert {name: histogram.count for name, histogram in seen.stages.items()} == {"database": 3}


async def pass_its_deadline(
    stub: codebase_grpc.CodebaseServiceStub, statistics: RequestStatistics, method: str
) -> None:
    late = stub.DeleteCodebase(codebase_pb.DeleteCodebaseRequest(), timeout=3.0)
    while not statistics.of(method).running_count:
        await asyncio.sleep(0.01)
    # The server's deadline is later than the client's by the way of the request, and the client gives up at its own.
    # While the loop stands still, both pass before the server hears of either.
    time.sleep(3.5)  # noqa: ASYNC251
    with pytest.raises(grpc.aio.AioRpcError):
        await late
    while statistics.of(method).running_count:
        await asyncio.sleep(0.01)


async def test_what_became_of_calls_that_nobody_answered_is_counted(
    channel: grpc.aio.Channel,
    statistics: RequestStatistics,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that its caller cancels, and one whose deadline passes: no fault of ours, which would call somebody at night.

    The log tells them apart. A deadline that left time enough is another matter.
    """
    caplog.set_level(logging.INFO, logger="gateway.requests")
    stub = codebase_grpc.CodebaseServiceStub(channel)
    method = "CodebaseService/DeleteCodebase"
    call = stub.DeleteCodebase(codebase_pb.DeleteCodebaseRequest())
    while not statistics.of(method).running_count:
        await asyncio.sleep(0.01)
    call.cancel()
    await until_ended(statistics, method)
    assert statistics.of(method).code_counts == {"CANCELLED": 1}
    await pass_its_deadline(stub, statistics, method)
    assert statistics.of(method).code_counts == {"CANCELLED": 2}
    lines = [record.getMessage() for record in caplog.records if record.name == "gateway.requests"]
    assert [line.split(" in ")[0] for line in lines] == [f"{method} CANCELLED", f"{method} CANCELLED DEADLINE_EXCEEDED"]
    monkeypatch.setattr(observation, "_TIME_ENOUGH_S", 2.0)
    await pass_its_deadline(stub, statistics, method)
    assert statistics.of(method).code_counts == {"CANCELLED": 2, "DEADLINE_EXCEEDED": 1}


async def test_the_services_own_limit_is_a_fault_of_its_own(
    channel: grpc.aio.Channel, statistics: RequestStatistics
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await codebase_grpc.CodebaseServiceStub(channel).DeleteCodebase(codebase_pb.DeleteCodebaseRequest())
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until_ended(statistics, "CodebaseService/DeleteCodebase")
    assert statistics.of("CodebaseService/DeleteCodebase").code_counts == {"DEADLINE_EXCEEDED": 1}


async def test_a_stream_is_counted_by_items_and_batches(
    channel: grpc.aio.Channel, servicer: Servicer, statistics: RequestStatistics
) -> None:
    """Its stages are those of its batches: a stream may last for hours."""
    items = [embedding_pb.StreamEmbedRequest(item_id=name) for name in ("a", "bad", "c")]
    call = embedding_grpc.EmbeddingServiceStub(channel).StreamEmbed(iter(items), metadata=(("duovec-timing", "1"),))
    assert [response.item_id async for response in call] == ["a", "bad", "c"]
    await until_ended(statistics, "EmbeddingService/StreamEmbed")
    seen = statistics.methods["EmbeddingService/StreamEmbed"]
    assert seen.item_code_counts == {"OK": 2, "INVALID_ARGUMENT": 1}
    assert (seen.batch_durations.count, seen.stages["infer"].count, seen.code_counts) == (3, 3, {"OK": 1})
    assert "infer;dur=" in dict(await call.trailing_metadata())["server-timing"]
    servicer.error = errors.Unauthenticated("revoked")
    call = embedding_grpc.EmbeddingServiceStub(channel).StreamEmbed(iter(items))
    with pytest.raises(grpc.aio.AioRpcError):
        [response async for response in call]
    await until_ended(statistics, "EmbeddingService/StreamEmbed")
    assert seen.code_counts == {"OK": 1, "UNAUTHENTICATED": 1}


async def test_the_times_of_the_stages_are_told_to_those_who_ask(get: Get, servicer: Servicer) -> None:
    """In milliseconds, in the trailing metadata, of a call that fails, too; nobody else gets them."""
    told = dict(await (await get(duovec_timing="1")).trailing_metadata())["server-timing"]
    assert re.fullmatch(
        r"tokenize;dur=0\.00, queue;dur=0\.00, infer;dur=0\.00, database;dur=\d+\.\d\d, total;dur=\d+\.\d\d", told
    )
    assert "server-timing" not in dict(await (await get()).trailing_metadata())
    servicer.error = errors.NotFound("no")
    told = dict(await (await get(duovec_timing="1")).trailing_metadata())["server-timing"]
    assert "total;dur=" in told


async def test_a_failed_call_has_one_line_in_the_log_and_no_word_of_its_request(
    get: Get, servicer: Servicer, caplog: pytest.LogCaptureFixture
) -> None:
    """A call that went well has none. The reason is that of the status, the request's id that of the reply."""
    with caplog.at_level(logging.DEBUG, logger="gateway"):
        await get()
        assert caplog.records == []
        servicer.error = errors.NotFound(f"no codebase {SECRET}")
        call = await get()
    (record,) = caplog.records
    status = status_pb2.Status.FromString(dict(await call.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.RequestInfo()
    assert [detail.Unpack(info) for detail in status.details] == [False, True]
    found = re.fullmatch(
        r"CodebaseService/GetCodebase NOT_FOUND CODEBASE_NOT_FOUND in \d+\.\d ms, principal -, request ([0-9a-f]{16})",
        record.getMessage(),
    )
    assert found is not None and found[1] == info.request_id
    assert record.levelno == logging.INFO
    assert SECRET not in JsonFormatter().format(record)


async def test_calls_without_a_key_fill_no_log(get: Get, servicer: Servicer, caplog: pytest.LogCaptureFixture) -> None:
    """Anybody can make them; so many a second are told, and the others counted."""
    servicer.error = errors.Unauthenticated("no key")
    with caplog.at_level(logging.INFO, logger="gateway.requests"):
        while len(caplog.records) < 21:
            await asyncio.gather(*(get() for _ in range(50)))
    assert re.search(r"request [0-9a-f]{16} \(and \d+ such lines were left out before\)$", caplog.messages[20])


async def test_a_fault_of_ours_is_an_error_in_the_log(
    get: Get, servicer: Servicer, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever watches for errors finds it, with the id that its caller was told."""
    servicer.error = ValueError("secret")
    with caplog.at_level(logging.INFO, logger="gateway.requests"):
        await get(x_request_id="my-own.1")
    (record,) = [record for record in caplog.records if record.name == "gateway.requests"]
    assert record.levelno == logging.ERROR
    assert record.getMessage().endswith("request my-own.1")


@pytest.mark.parametrize("value", ["a b", "x" * 65, "", "a%0a", 'a"b'])
async def test_a_caller_cannot_write_into_the_log_by_its_request_id(
    value: str, get: Get, servicer: Servicer, caplog: pytest.LogCaptureFixture
) -> None:
    """Another one is made; gRPC itself takes nothing but printable ASCII."""
    servicer.error = errors.NotFound("no")
    with caplog.at_level(logging.INFO, logger="gateway.requests"):
        await get(x_request_id=value)
    assert re.search(r"request [0-9a-f]{16}$", caplog.records[-1].getMessage())


async def test_a_call_is_a_span_with_its_stages(get: Get, servicer: Servicer, spans: Spans) -> None:
    """It ends with the call's code, and is made of its caller's metadata."""
    await get(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    servicer.error = errors.NotFound("no")
    await get()
    good, bad = spans.begun
    assert good.name == "duovec.v1.CodebaseService/GetCodebase"
    assert good.attributes["traceparent"].startswith("00-0af7")  # type: ignore[union-attr]
    assert [(part.name, part.ended) for part in good.parts] == [("transaction", True)]
    assert (good.code, bad.code) == ("OK", "NOT_FOUND")


async def test_lines_of_a_request_name_its_trace(
    servicer: Servicer, statistics: RequestStatistics, spans: Spans, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is logged while it runs, in JSON."""
    logger = logging.getLogger("gateway.test_observation")
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    recorder = stages.Recorder("r-1", RecordedSpan("call"))

    async def request() -> None:
        stages.record(recorder)
        logger.warning("the cache could not be read")

    await asyncio.create_task(request())
    logger.removeHandler(handler)
    line = json.loads(capsys.readouterr().err)
    assert (line["request_id"], line["trace_id"]) == ("r-1", RecordedSpan("call").trace_id)
    assert (line["level"], line["message"]) == ("WARNING", "the cache could not be read")
