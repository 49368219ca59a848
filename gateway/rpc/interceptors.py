"""The only place where errors become gRPC statuses."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from gateway import errors
from gateway.rpc.handlers import Stream, Unary, is_own, parsed, wrapped
from gateway.rpc.places import PlacesByOwner
from gateway.telemetry import stages

logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

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
# What gRPC says of a status that it does not take, while the caller still waits for one.
_REFUSED = "grpc_call_start_batch"
# Requests without a key, of up to 8 MB each, and how long one may take to come: those of health have some bytes. Each
# host has its own places, so that who holds them holds up nobody's probes.
_RECEIVED_AT_ONCE = 8
_RECEIVED_WITHIN_S = 5.0
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


async def _abort(context: Context, exc: Exception) -> NoReturn:
    status = status_of(exc)
    _let_go(exc)
    if (recorder := stages.current()) is not None:
        recorder.reason = reason_of(exc)
        packed = AnyMessage()
        packed.Pack(error_details_pb2.RequestInfo(request_id=recorder.request_id))
        status.details.append(packed)
    details = ("grpc-status-details-bin", status.SerializeToString())
    try:
        await context.abort(
            _GRPC_CODES[status.code], status.message, trailing_metadata=(details, *stages.trailing_timing())
        )
    except grpc.aio.InternalError as failure:
        if _REFUSED in str(failure):
            raise
        # The connection broke, which gRPC takes for a fault of ours until it has seen the end of the call itself.
        raise asyncio.CancelledError from None
    raise AssertionError("abort returned")


def _let_go(exc: BaseException) -> None:
    """Forget the frames that an error came through.

    gRPC's objects keep the error of a call in a cycle, and frames of ours would keep requests of megabytes with it
    until Python's collector comes by, which may be after hundreds of calls. The frames themselves are left alone: calls
    that share a request to Triton share its error, and another one may still work in them.
    """
    seen: BaseException | None = exc
    while seen is not None and (seen.__traceback__ or seen is exc):
        seen.__traceback__ = None
        seen = seen.__cause__ or seen.__context__


def _host(context: Context) -> str:
    """Of the peer: `ipv4:127.0.0.1:50000` without its port."""
    return (context.peer() or "").rpartition(":")[0]


class _Public:
    """Calls the services that are not ours, which need no key, with what parses; gRPC itself would answer UNKNOWN."""

    def __init__(self) -> None:
        self._receiving = PlacesByOwner(_RECEIVED_AT_ONCE)
        self._streams = PlacesByOwner(_RECEIVED_AT_ONCE)

    def wrapped(self, handler: Any) -> Any:
        """A handler that gRPC gives a stream of unparsed requests, whatever its method has."""
        parse = handler.request_deserializer or bytes

        async def unary_unary(requests: AsyncIterator[bytes], context: Context) -> Any:
            try:
                return await handler.unary_unary(await self._one(parse, context), context)
            except BaseException as exc:
                _let_go(exc)
                raise

        async def unary_stream(requests: AsyncIterator[bytes], context: Context) -> Any:
            # That of health writes its replies to the context.
            return await handler.unary_stream(await self._one(parse, context), context)

        async def read(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
            async for data in requests:
                yield await self._parsed(parse, data, context)

        async def stream_stream(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
            async with self._streams.one(_host(context)):
                async for response in handler.stream_stream(read(requests, context), context):
                    yield response

        serialize = handler.response_serializer
        if handler.unary_unary:
            return grpc.stream_unary_rpc_method_handler(unary_unary, response_serializer=serialize)
        behavior = unary_stream if handler.unary_stream else stream_stream
        return grpc.stream_stream_rpc_method_handler(behavior, response_serializer=serialize)

    async def _one(self, parse: Callable[[bytes], Any], context: Context) -> Any:
        try:
            async with asyncio.timeout(_RECEIVED_WITHIN_S), self._receiving.one(_host(context)):
                data: Any = await context.read()
        except TimeoutError as exc:
            await _abort(context, exc)
        return await self._parsed(parse, b"" if data is grpc.aio.EOF else data, context)

    async def _parsed(self, parse: Callable[[bytes], Any], data: bytes, context: Context) -> Any:
        try:
            return parsed(parse, data)
        except errors.InvalidInput as exc:
            await _abort(context, exc)


@contextmanager
def _read_within(timeout_s: float, context: Context) -> Iterator[None]:
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
        self._public = _Public()

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
            return self._public.wrapped(handler)
        return wrapped(handler, unary=self._unary, stream=self._stream)

    def _unary(self, method: Unary) -> Unary:
        async def call(request: Any, context: Context) -> Any:
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await method(request, context)
            except asyncio.CancelledError as exc:
                _let_go(exc)
                raise
            except Exception as exc:  # noqa: BLE001 - the outermost edge
                await _abort(context, exc)

        return call

    def _stream(self, method: Stream) -> Stream:
        async def call(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            try:
                async for response in method(requests, context):
                    with _read_within(self._timeout_s, context):
                        yield response
            except asyncio.CancelledError as exc:
                _let_go(exc)
                raise
            except Exception as exc:  # noqa: BLE001 - the outermost edge
                await _abort(context, exc)

        return call
