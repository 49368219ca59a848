"""What is seen of every call from outside: statistics, a trace, a line in the log, the times of its stages."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from gateway.errors import DeadlineExceeded
from gateway.rpc.handlers import Stream, Unary, is_own, wrapped
from gateway.telemetry import stages
from gateway.telemetry.observer import Observer
from gateway.telemetry.stages import Recorder

Context = grpc.aio.ServicerContext[Any, Any]

# Many times what any call with one reply takes of a service that is well.
_TIME_ENOUGH_S = 10.0
_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


class ObservingInterceptor(grpc.aio.ServerInterceptor):
    """Watches the calls of duovec's own services from end to end; stands outside all other interceptors."""

    def __init__(self, observer: Observer) -> None:
        """Args: observer: Is told of every call."""
        self._observer = observer

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a call of duovec's own services."""
        handler = await continuation(handler_call_details)
        if handler is None or not is_own(handler_call_details.method):
            return handler
        # /duovec.v1.SearchService/Search: only methods that there are come here, so that their number is bounded.
        watched = _Watch(self._observer, handler_call_details.method.removeprefix("/"))
        return wrapped(handler, unary=watched.unary, stream=watched.stream)


class _Watch:
    """The watch over one method."""

    def __init__(self, observer: Observer, method: str) -> None:
        self._observer = observer
        self._full_method = method
        self._method = method.removeprefix("duovec.v1.")
        self._statistics = observer.statistics.of(self._method)

    def unary(self, behavior: Unary) -> Unary:
        async def call(request: Any, context: Context) -> Any:
            recorder = self._begin(context)
            code = "OK"
            try:
                response = await behavior(request, context)
                if timing := stages.trailing_timing():
                    context.set_trailing_metadata(timing)
                return response
            except BaseException:
                code = _failure(context, recorder)
                raise
            finally:
                self._observer.end(self._method, recorder, code)

        return call

    def stream(self, behavior: Stream) -> Stream:
        async def call(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            recorder = self._begin(context)
            item_codes = self._statistics.item_code_counts
            code = "OK"
            try:
                async for response in behavior(requests, context):
                    item_codes[_item_code(response)] += 1
                    yield response
                if timing := stages.trailing_timing():
                    context.set_trailing_metadata(timing)
            except BaseException:
                code = _failure(context, recorder)
                raise
            finally:
                self._observer.end(self._method, recorder, code, is_stream=True)

        return call

    def _begin(self, context: Context) -> Recorder:
        metadata = {name: str(value) for name, value in context.invocation_metadata() or ()}
        return self._observer.begin(
            self._method, metadata, span=lambda tracing: tracing.begin(self._full_method, metadata)
        )


def _item_code(response: Any) -> str:
    """That of a reply in a stream; where replies have no room for an error, one that fails ends the stream."""
    return _NAMES.get(response.error.code, "UNKNOWN") if "error" in response.DESCRIPTOR.fields_by_name else "OK"


def _failure(context: Context, recorder: Recorder) -> str:
    """The code of a call that has failed: the one that it was aborted with, or CANCELLED where its caller gave up.

    A caller's deadline that was too short is no fault of the service, and only the reason in the log; one that gave the
    service time enough is DEADLINE_EXCEEDED, as the service's own limit is, which may be the later of the two.
    """
    code: Any = context.code()
    number = code.value[0] if isinstance(code, grpc.StatusCode) else code
    if number:
        return _NAMES.get(number, "UNKNOWN")
    remaining_s = context.time_remaining()
    if remaining_s is not None and remaining_s <= 0:
        recorder.reason = DeadlineExceeded.reason
        if recorder.elapsed_s >= _TIME_ENOUGH_S:
            return "DEADLINE_EXCEEDED"
    return "CANCELLED"
