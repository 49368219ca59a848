"""The only place where errors become gRPC statuses."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from gateway import errors
from gateway.rpc.handlers import Stream, Unary, is_own, wrapped
from gateway.telemetry import stages

logger = logging.getLogger(__name__)

DOMAIN = "duovec"

# The first class that matches decides: subclasses stand before their bases.
_CODES: tuple[tuple[type[errors.DuovecError], "code_pb2.Code"], ...] = (
    (errors.InvalidInput, code_pb2.INVALID_ARGUMENT),
    (errors.Unauthenticated, code_pb2.UNAUTHENTICATED),
    (errors.PermissionDenied, code_pb2.PERMISSION_DENIED),
    (errors.NotFound, code_pb2.NOT_FOUND),
    (errors.AlreadyExists, code_pb2.ALREADY_EXISTS),
    (errors.FailedPrecondition, code_pb2.FAILED_PRECONDITION),
    (errors.Overloaded, code_pb2.RESOURCE_EXHAUSTED),
    (errors.BackendUnavailable, code_pb2.UNAVAILABLE),
    (errors.DeadlineExceeded, code_pb2.DEADLINE_EXCEEDED),
)
_GRPC_CODES = {code.value[0]: code for code in grpc.StatusCode}
# The event loop itself keeps no task alive.
_ending: set[asyncio.Task[None]] = set()


def status_of(exc: Exception) -> status_pb2.Status:
    """The status that a caller gets for an error; what was not foreseen is logged, and hidden from the caller."""
    if isinstance(exc, TimeoutError):
        exc = errors.DeadlineExceeded("the call did not finish in its time")
    code = next((code for kind, code in _CODES if isinstance(exc, kind)), code_pb2.INTERNAL)
    if isinstance(exc, errors.BadVector):
        message = f"{exc}; nothing was stored"
        logger.error("bad vector: %s", exc)
    elif code == code_pb2.INTERNAL:
        message = "internal error; the server's log has the details"
        logger.error("unforeseen error", exc_info=exc)
    else:
        message = str(exc)
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=reason_of(exc), domain=DOMAIN)]
    if isinstance(exc, errors.InvalidInput):
        violation = error_details_pb2.BadRequest.FieldViolation(field=exc.field, description=exc.description)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(exc, errors.Overloaded):
        delay = Duration()
        delay.FromMilliseconds(max(1, round(exc.retry_after_s * 1000)))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=code, message=message)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def reason_of(exc: Exception) -> str:
    """The reason that a caller gets for an error."""
    if isinstance(exc, TimeoutError):
        return errors.DeadlineExceeded.reason
    return exc.reason if isinstance(exc, errors.DuovecError) else errors.DuovecError.reason


async def _abort(context: grpc.aio.ServicerContext[Any, Any], exc: Exception) -> NoReturn:
    status = status_of(exc)
    if (recorder := stages.current()) is not None:
        recorder.reason = reason_of(exc)
        packed = AnyMessage()
        packed.Pack(error_details_pb2.RequestInfo(request_id=recorder.request_id))
        status.details.append(packed)
    await context.abort(
        _GRPC_CODES[status.code],
        status.message,
        trailing_metadata=(("grpc-status-details-bin", status.SerializeToString()), *stages.trailing_timing()),
    )
    raise AssertionError("abort returned")


def _lenient(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Give bytes that do not parse as the error that the handler raises; gRPC itself would answer UNKNOWN."""

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError as exc:
            return errors.InvalidInput("request", f"does not parse, or has a string that is not UTF-8 ({exc})")

    return read


def _parsed(request: Any) -> Any:
    if isinstance(request, errors.InvalidInput):
        raise request
    return request


async def _all_parsed(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _parsed(request)


def _refusing_what_does_not_parse(handler: Any) -> Any:
    """The handler of a service that is not ours, which is called with what parses only."""

    async def parsed(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return _parsed(request)
        except errors.InvalidInput as exc:
            await _abort(context, exc)

    async def parsed_stream(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        async for request in requests:
            yield await parsed(request, context)

    async def unary_unary(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        return await handler.unary_unary(await parsed(request, context), context)

    async def unary_stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        return await handler.unary_stream(await parsed(request, context), context)

    async def stream_stream(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        async for response in handler.stream_stream(parsed_stream(requests, context), context):
            yield response

    kind = "_".join(
        "stream" if streams else "unary" for streams in (handler.request_streaming, handler.response_streaming)
    )
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(
        {"unary_unary": unary_unary, "unary_stream": unary_stream, "stream_stream": stream_stream}[kind],
        request_deserializer=_lenient(handler.request_deserializer),
        response_serializer=handler.response_serializer,
    )


@contextmanager
def _read_within(timeout_s: float, context: grpc.aio.ServicerContext[Any, Any]) -> Iterator[None]:
    """End the call when its caller does not take the reply that the block yields; gRPC itself would wait for ever."""
    loop, handler = asyncio.get_running_loop(), asyncio.current_task()
    error = errors.DeadlineExceeded(f"no reply was read for {timeout_s:g} s; read replies while you send")

    async def end() -> None:
        with suppress(grpc.aio.AbortError):
            await _abort(context, error)

    def give_up() -> None:
        _ending.add(task := loop.create_task(end()))
        task.add_done_callback(_ending.discard)
        # The status waits behind the replies that were not read. The call's place among the open streams does not.
        if handler is not None:
            loop.call_soon(handler.cancel)

    timer = loop.call_later(timeout_s, give_up)
    try:
        yield
    finally:
        timer.cancel()


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Gives every unary call a deadline, every reply of a stream a time to be read, and every failure a status."""

    def __init__(self, *, timeout_s: float) -> None:
        """Args: timeout_s: Longest time of a unary call, whatever its caller allows, and of a reply, seconds."""
        self._timeout_s = timeout_s

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a call of duovec's own services; of health and reflection only what they read."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        if not is_own(handler_call_details.method):
            return _refusing_what_does_not_parse(handler)
        return wrapped(
            handler,
            unary=self._unary,
            stream=self._stream,
            request_deserializer=_lenient(handler.request_deserializer),
        )

    def _unary(self, method: Unary) -> Unary:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await method(_parsed(request), context)
            except Exception as exc:  # noqa: BLE001 - the outermost edge
                await _abort(context, exc)

        return call

    def _stream(self, method: Stream) -> Stream:
        async def call(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            try:
                async for response in method(_all_parsed(requests), context):
                    with _read_within(self._timeout_s, context):
                        yield response
            except Exception as exc:  # noqa: BLE001 - the outermost edge
                await _abort(context, exc)

        return call
