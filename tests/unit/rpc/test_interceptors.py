"""Every failure becomes one status with its details, in process and over real gRPC."""

# ruff: noqa: N802 - the methods are named after the RPCs.

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from duovec.v1 import codebase_service_pb2 as codebase_pb
from duovec.v1 import codebase_service_pb2_grpc as codebase_grpc
from duovec.v1 import embedding_service_pb2 as embedding_pb
from duovec.v1 import embedding_service_pb2_grpc as embedding_grpc
from gateway import errors
from gateway.rpc.intake import Intake, IntakeInterceptor
from gateway.rpc.interceptors import ErrorInterceptor, _abort, status_of

HIDDEN = "internal error; the server's log has the details"

CASES = [
    (errors.DuovecError("secret"), code_pb2.INTERNAL, "INTERNAL", HIDDEN),
    (errors.InvalidInput("texts[3]", "is empty"), code_pb2.INVALID_ARGUMENT, "INVALID_INPUT", "texts[3]: is empty"),
    (errors.TextTooLong("text", "700 tokens"), code_pb2.INVALID_ARGUMENT, "TEXT_TOO_LONG", "text: 700 tokens"),
    (errors.NotFound("no codebase x"), code_pb2.NOT_FOUND, "CODEBASE_NOT_FOUND", "no codebase x"),
    (errors.Unauthenticated("no such key"), code_pb2.UNAUTHENTICATED, "API_KEY_INVALID", "no such key"),
    (errors.ApiKeyMissing("no key"), code_pb2.UNAUTHENTICATED, "API_KEY_MISSING", "no key"),
    (errors.ApiKeyExpired("expired"), code_pb2.UNAUTHENTICATED, "API_KEY_EXPIRED", "expired"),
    (errors.ApiKeyRevoked("revoked"), code_pb2.UNAUTHENTICATED, "API_KEY_REVOKED", "revoked"),
    (errors.PermissionDenied("takes WRITE"), code_pb2.PERMISSION_DENIED, "ROLE_REQUIRED", "takes WRITE"),
    (errors.AdminRequired("takes an admin"), code_pb2.PERMISSION_DENIED, "ADMIN_REQUIRED", "takes an admin"),
    (errors.ChunkNotFound("no principal x"), code_pb2.NOT_FOUND, "CHUNK_NOT_FOUND", "no principal x"),
    (errors.PrincipalNotFound("no principal x"), code_pb2.NOT_FOUND, "PRINCIPAL_NOT_FOUND", "no principal x"),
    (errors.ApiKeyNotFound("no key x"), code_pb2.NOT_FOUND, "API_KEY_NOT_FOUND", "no key x"),
    (errors.SearchNotFound("no search x"), code_pb2.NOT_FOUND, "SEARCH_NOT_FOUND", "no search x"),
    (errors.GrantNotFound("no grant"), code_pb2.NOT_FOUND, "GRANT_NOT_FOUND", "no grant"),
    (errors.PrincipalExists("x exists"), code_pb2.ALREADY_EXISTS, "PRINCIPAL_EXISTS", "x exists"),
    (errors.AlreadyExists("x exists"), code_pb2.ALREADY_EXISTS, "CODEBASE_EXISTS", "x exists"),
    (errors.SpaceExists("space x"), code_pb2.ALREADY_EXISTS, "SPACE_EXISTS", "space x"),
    (errors.SpaceNotFound("no space x"), code_pb2.NOT_FOUND, "SPACE_NOT_FOUND", "no space x"),
    (errors.TrainingRunNotFound("no run x"), code_pb2.NOT_FOUND, "TRAINING_RUN_NOT_FOUND", "no run x"),
    (errors.ModelNotFound("none"), code_pb2.NOT_FOUND, "MODEL_NOT_FOUND", "none"),
    (errors.TrainingScheduleNotFound("none"), code_pb2.NOT_FOUND, "TRAINING_SCHEDULE_NOT_FOUND", "none"),
    (errors.TrainingRunEnded("ended"), code_pb2.FAILED_PRECONDITION, "TRAINING_RUN_ENDED", "ended"),
    (errors.FailedPrecondition("not now"), code_pb2.FAILED_PRECONDITION, "INTERNAL", "not now"),
    (errors.SpaceMismatch("not this"), code_pb2.FAILED_PRECONDITION, "SPACE_MISMATCH", "not this"),
    (errors.SpaceNotReady("not yet"), code_pb2.FAILED_PRECONDITION, "SPACE_NOT_READY", "not yet"),
    (errors.SpaceIncomplete("not yet"), code_pb2.FAILED_PRECONDITION, "SPACE_NOT_READY", "not yet"),
    (errors.SpaceInUse("in use"), code_pb2.FAILED_PRECONDITION, "SPACE_IN_USE", "in use"),
    (errors.RevisionChanged("another"), code_pb2.FAILED_PRECONDITION, "REVISION_CHANGED", "another"),
    (errors.Overloaded("full", retry_after_s=2.5), code_pb2.RESOURCE_EXHAUSTED, "OVERLOADED", "full"),
    (errors.QuotaExceeded("over", retry_after_s=2.5), code_pb2.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED", "over"),
    (errors.BackendUnavailable("down"), code_pb2.UNAVAILABLE, "INTERNAL", "down"),
    (errors.TritonUnavailable("no Triton"), code_pb2.UNAVAILABLE, "TRITON_UNAVAILABLE", "no Triton"),
    (errors.DatabaseUnavailable("no database"), code_pb2.UNAVAILABLE, "DATABASE_UNAVAILABLE", "no database"),
    (errors.StreamIdle("nothing came"), code_pb2.UNAVAILABLE, "STREAM_IDLE", "nothing came"),
    (errors.DeadlineExceeded("too late"), code_pb2.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "too late"),
    (errors.BackendFault("secret"), code_pb2.INTERNAL, "INTERNAL", HIDDEN),
    (errors.BadVector("norm 0.0"), code_pb2.INTERNAL, "BAD_VECTOR", "norm 0.0; nothing was stored"),
    (errors.StartupError("secret"), code_pb2.INTERNAL, "INTERNAL", HIDDEN),
    (ValueError("secret"), code_pb2.INTERNAL, "INTERNAL", HIDDEN),
    (KeyError("secret"), code_pb2.INTERNAL, "INTERNAL", HIDDEN),
    (
        TimeoutError("secret"),
        code_pb2.DEADLINE_EXCEEDED,
        "DEADLINE_EXCEEDED",
        "the call did not finish in its time",
    ),
]


def details_of(status: status_pb2.Status, kind: Any) -> list[Any]:
    found = []
    for packed in status.details:
        detail = kind()
        if packed.Unpack(detail):
            found.append(detail)
    return found


def test_the_cases_are_all_errors_there_are() -> None:
    """An error that is new to the hierarchy needs a case here."""
    known = {error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, Exception)}
    assert known <= {type(exc) for exc, *_ in CASES}


@pytest.mark.parametrize(("exc", "code", "reason", "message"), CASES, ids=[type(exc).__name__ for exc, *_ in CASES])
def test_an_error_has_its_code_reason_and_message(exc: Exception, code: int, reason: str, message: str) -> None:
    """Each error has one code and one ErrorInfo; what was not foreseen hides its text."""
    status = status_of(exc)
    assert (status.code, status.message) == (code, message)
    (info,) = details_of(status, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == (reason, "duovec")
    assert b"secret" not in status.SerializeToString()


def test_invalid_input_names_its_field() -> None:
    """BadRequest has the field and the description apart."""
    (request,) = details_of(status_of(errors.InvalidInput("texts[3]", "is empty")), error_details_pb2.BadRequest)
    assert [(violation.field, violation.description) for violation in request.field_violations] == [
        ("texts[3]", "is empty")
    ]


@pytest.mark.parametrize(("retry_after_s", "milliseconds"), [(2.5, 2500), (0.0, 1), (0.0001, 1), (30.0, 30_000)])
def test_overload_says_when_to_retry(retry_after_s: float, milliseconds: int) -> None:
    """RetryInfo has the delay, and never none at all."""
    (retry,) = details_of(
        status_of(errors.Overloaded("full", retry_after_s=retry_after_s)), error_details_pb2.RetryInfo
    )
    assert retry.retry_delay.ToMilliseconds() == milliseconds


def test_other_errors_carry_neither_violations_nor_a_delay() -> None:
    """Only what is there to act on is sent."""
    status = status_of(errors.NotFound("no codebase x"))
    assert [packed.TypeName() for packed in status.details] == ["google.rpc.ErrorInfo"]


def test_an_unforeseen_error_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """What the caller is not told, the operator is."""
    exc = ValueError("secret")
    with caplog.at_level(logging.ERROR, logger="gateway.rpc.interceptors"):
        status_of(exc)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is exc


def test_a_mistake_of_the_caller_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Callers cannot fill the log."""
    with caplog.at_level(logging.DEBUG, logger="gateway.rpc.interceptors"):
        status_of(errors.InvalidInput("text", "is empty"))
    assert caplog.records == []


class Servicer(codebase_grpc.CodebaseServiceServicer, embedding_grpc.EmbeddingServiceServicer):
    """Fails as it is told, hangs on DeleteCodebase, and answers an item "flood" without end."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.cancelled = asyncio.Event()

    async def GetCodebase(self, request: Any, context: Any) -> codebase_pb.GetCodebaseResponse:
        if self.error:
            raise self.error
        response = codebase_pb.GetCodebaseResponse()
        response.codebase.codebase_id = request.codebase_id
        return response

    async def DeleteCodebase(self, request: Any, context: Any) -> codebase_pb.DeleteCodebaseResponse:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        raise AssertionError("unreachable")

    async def StreamEmbed(self, requests: Any, context: Any) -> AsyncIterator[embedding_pb.StreamEmbedResponse]:
        async for request in requests:
            try:
                while request.item_id == "flood":
                    yield embedding_pb.StreamEmbedResponse(item_id="x" * 100_000)
            finally:
                self.cancelled.set()
            if self.error:
                raise self.error
            yield embedding_pb.StreamEmbedResponse(item_id=request.item_id)
            self.error = errors.TritonUnavailable("no Triton")


class ForeignHandlers(grpc.GenericRpcHandler):
    """A service that is not duovec's, and fails."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        async def fail(request: bytes, context: Any) -> bytes:
            raise ValueError("its own words")

        known = handler_call_details.method == "/other.Service/Fail"
        return grpc.unary_unary_rpc_method_handler(fail) if known else None


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
def limit_s() -> float:
    """More than any call takes, on a busy machine, too."""
    return 30.0


@pytest.fixture
async def channel(servicer: Servicer, limit_s: float) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a real server whose calls may take `limit_s` seconds."""
    server = grpc.aio.server(interceptors=[ErrorInterceptor(timeout_s=limit_s), IntakeInterceptor(Intake())])
    codebase_grpc.add_CodebaseServiceServicer_to_server(servicer, server)
    embedding_grpc.add_EmbeddingServiceServicer_to_server(servicer, server)
    server.add_generic_rpc_handlers((ForeignHandlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


def status_in(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    metadata = dict(error.trailing_metadata())
    return status_pb2.Status.FromString(metadata["grpc-status-details-bin"])


async def test_a_call_that_succeeds_is_left_alone(channel: grpc.aio.Channel) -> None:
    """The interceptor changes nothing about an answer."""
    response = await codebase_grpc.CodebaseServiceStub(channel).GetCodebase(
        codebase_pb.GetCodebaseRequest(codebase_id="mine")
    )
    assert response.codebase.codebase_id == "mine"


async def test_an_error_of_a_unary_call_arrives_with_its_details(servicer: Servicer, channel: grpc.aio.Channel) -> None:
    """Code, text and the status in the trailing metadata agree."""
    servicer.error = errors.NotFound("no codebase mine")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await codebase_grpc.CodebaseServiceStub(channel).GetCodebase(codebase_pb.GetCodebaseRequest())
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "no codebase mine"
    status = status_in(caught.value)
    assert (status.code, status.message) == (code_pb2.NOT_FOUND, "no codebase mine")
    assert details_of(status, error_details_pb2.ErrorInfo)[0].reason == "CODEBASE_NOT_FOUND"


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x02\xff\xfe"], ids=["no message", "a string that is not UTF-8"])
async def test_bytes_that_do_not_parse_are_the_caller_s_mistake(channel: grpc.aio.Channel, data: bytes) -> None:
    """gRPC itself would answer UNKNOWN, without details, and log a traceback."""
    for call in (
        channel.unary_unary("/duovec.v1.CodebaseService/GetCodebase")(data),
        channel.stream_stream("/duovec.v1.EmbeddingService/StreamEmbed")(iter([data])).read(),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert details_of(status_in(caught.value), error_details_pb2.ErrorInfo)[0].reason == "INVALID_INPUT"
        assert "not UTF-8" in (caught.value.details() or "")


async def test_an_unforeseen_error_arrives_without_its_text(servicer: Servicer, channel: grpc.aio.Channel) -> None:
    """Nothing of the exception leaves the server."""
    servicer.error = RuntimeError("password=hunter2")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await codebase_grpc.CodebaseServiceStub(channel).GetCodebase(codebase_pb.GetCodebaseRequest())
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == HIDDEN
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("limit_s", [0.2])
async def test_a_call_without_a_deadline_gets_one(servicer: Servicer, channel: grpc.aio.Channel) -> None:
    """A unary call that hangs is cancelled after the server's own limit."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await codebase_grpc.CodebaseServiceStub(channel).DeleteCodebase(codebase_pb.DeleteCodebaseRequest(), timeout=30)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert caught.value.details() == "the call did not finish in its time"
    assert details_of(status_in(caught.value), error_details_pb2.ErrorInfo)[0].reason == "DEADLINE_EXCEEDED"
    assert servicer.cancelled.is_set()


async def test_an_error_of_a_stream_comes_after_its_replies(channel: grpc.aio.Channel) -> None:
    """What was answered arrives, then the status with details."""
    call = embedding_grpc.EmbeddingServiceStub(channel).StreamEmbed(
        iter([embedding_pb.StreamEmbedRequest(item_id=name) for name in ("a", "b")])
    )
    answered = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for response in call:
            answered.append(response.item_id)  # noqa: PERF401 - the list must survive the exception
    assert answered == ["a"]
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert details_of(status_in(caught.value), error_details_pb2.ErrorInfo)[0].reason == "TRITON_UNAVAILABLE"


@pytest.mark.parametrize("limit_s", [0.2])
async def test_replies_that_nobody_reads_end_the_call(servicer: Servicer, channel: grpc.aio.Channel) -> None:
    """It gives its place among the open streams back at once; its caller learns why as soon as it reads."""
    call = embedding_grpc.EmbeddingServiceStub(channel).StreamEmbed(
        iter([embedding_pb.StreamEmbedRequest(item_id="flood")])
    )
    async with asyncio.timeout(60):
        await servicer.cancelled.wait()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in call:
                pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert caught.value.details() == "no reply was read for 0.2 s; read replies while you send"
    assert details_of(status_in(caught.value), error_details_pb2.ErrorInfo)[0].reason == "DEADLINE_EXCEEDED"


async def test_other_services_speak_for_themselves(channel: grpc.aio.Channel) -> None:
    """A failure of health or reflection is what gRPC makes of it, UNKNOWN, and carries no details of duovec."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/other.Service/Fail")(b"")
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert "grpc-status-details-bin" not in dict(caught.value.trailing_metadata())


async def test_an_unknown_method_is_unimplemented(channel: grpc.aio.Channel) -> None:
    """A method of duovec that does not exist is no internal error."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/duovec.v1.CodebaseService/Rename")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


class Together(codebase_grpc.CodebaseServiceServicer):
    """Fails all calls at once by one error; one of them goes on in spite of it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.waiting: list[asyncio.Future[None]] = []

    async def GetCodebase(self, request: Any, context: Any) -> codebase_pb.GetCodebaseResponse:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(waiter)
        if len(self.waiting) == self.count:
            error = errors.TritonUnavailable("no Triton")
            for each in self.waiting:
                each.set_exception(error)
        # As the two encoders of a call are awaited: the other is cancelled, and takes a moment.
        try:
            await self._wait(waiter, int(request.codebase_id))
        except errors.TritonUnavailable:
            if request.codebase_id != "0":
                raise
            await asyncio.sleep(0.3)
        return codebase_pb.GetCodebaseResponse()

    async def _wait(self, waiter: "asyncio.Future[None]", steps: int) -> None:
        try:
            await waiter
        finally:
            for _ in range(steps):
                await asyncio.sleep(0)


async def test_calls_that_share_an_error_do_not_end_each_other() -> None:
    """One request to Triton is of many calls; who can do without its answer does, whatever becomes of the others."""
    count = 12
    server = grpc.aio.server(interceptors=[ErrorInterceptor(timeout_s=20), IntakeInterceptor(Intake())])
    codebase_grpc.add_CodebaseServiceServicer_to_server(Together(count), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        get = codebase_grpc.CodebaseServiceStub(channel).GetCodebase
        calls = [get(codebase_pb.GetCodebaseRequest(codebase_id=str(number)), timeout=10) for number in range(count)]
        codes = [await call.code() for call in calls]
    await server.stop(None)
    assert codes == [grpc.StatusCode.OK] + [grpc.StatusCode.UNAVAILABLE] * (count - 1)


@pytest.fixture
async def health_channel() -> AsyncIterator[grpc.aio.Channel]:
    """To a server that has health and reflection behind the interceptors, as the gateway."""
    server = grpc.aio.server(interceptors=[ErrorInterceptor(timeout_s=20), IntakeInterceptor(Intake())])
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection((health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


async def test_health_is_checked_and_watched_and_services_are_listed(health_channel: grpc.aio.Channel) -> None:
    """All three shapes of methods that are not ours."""
    stub = health_pb2_grpc.HealthStub(health_channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    assert (await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)).status == serving
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=10)
    assert (await watch.read()).status == serving
    watch.cancel()
    listing = reflection_pb2_grpc.ServerReflectionStub(health_channel).ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=10
    )
    names = {service.name for service in (await listing.read()).list_services_response.service}
    assert names == {health.SERVICE_NAME, reflection.SERVICE_NAME}


async def test_a_request_without_a_key_that_does_not_come_is_given_up(
    health_channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place is another's then."""
    with monkeypatch.context() as patched:
        patched.setattr("gateway.rpc.interceptors._RECEIVED_WITHIN_S", 0.2)
        silent = [health_channel.stream_unary("/grpc.health.v1.Health/Check")(timeout=20) for _ in range(20)]
        codes = {await call.code() for call in silent}
    assert codes == {grpc.StatusCode.DEADLINE_EXCEEDED}
    await health_pb2_grpc.HealthStub(health_channel).Check(health_pb2.HealthCheckRequest(), timeout=10)


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        ('Failed "execute_batch": (<SendStatusFromServerOperation>,)', asyncio.CancelledError),
        ("Failed grpc_call_start_batch: 8 with grpc_call_error value: 'TOO_MANY_OPERATIONS'", grpc.aio.InternalError),
    ],
)
async def test_a_status_that_nobody_is_there_for_ends_as_a_cancelled_call(
    failure: str, raised: type[BaseException]
) -> None:
    """gRPC logs the error otherwise, as a fault of ours, which the second is; which it gives is a matter of moments."""

    class Context:
        async def abort(self, *arguments: object, **options: object) -> None:
            raise grpc.aio.InternalError(failure)

    with pytest.raises(raised):
        await _abort(Context(), errors.NotFound("no codebase x"))  # type: ignore[arg-type]
