"""What is seen of every call from outside: statistics, a trace, a line in the log, the times of its stages."""

import logging
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

import grpc

from gateway.rpc.handlers import Stream, Unary, is_own, wrapped
from gateway.store.caller import current_principal_id
from gateway.telemetry import stages
from gateway.telemetry.requests import MethodStatistics, RequestStatistics
from gateway.telemetry.stages import Recorder, Span

Context = grpc.aio.ServicerContext[Any, Any]

logger = logging.getLogger("gateway.requests")

TIMING_KEY = "duovec-timing"
"""Metadata of a call: `1` asks for the times of its stages, `server-timing` among the trailing metadata."""
REQUEST_ID_KEY = "x-request-id"
"""Metadata of a call: what its caller calls it in our log, 1 to 64 of A-Z, a-z, 0-9, `.`, `_` and `-`."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_LEVELS = {"INTERNAL": logging.ERROR, "UNKNOWN": logging.ERROR, "DATA_LOSS": logging.ERROR} | dict.fromkeys(
    ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"), logging.WARNING
)


class Tracing(Protocol):
    """Makes the spans of requests."""

    def begin(self, method: str, metadata: Mapping[str, str]) -> Span | None:
        """Begin the span of a call; None where it is not sampled."""


class ObservingInterceptor(grpc.aio.ServerInterceptor):
    """Watches the calls of duovec's own services from end to end; stands outside all other interceptors."""

    def __init__(self, statistics: RequestStatistics, *, tracing: Tracing | None, log_requests: bool) -> None:
        """Args: log_requests: Whether calls that went well have a line in the log, too."""
        self._statistics = statistics
        self._tracing = tracing
        self._log_requests = log_requests

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
        method = handler_call_details.method.rpartition("/")[0].rpartition(".")[2]
        method += "/" + handler_call_details.method.rpartition("/")[2]
        watched = _Watch(self, method)
        return wrapped(handler, unary=watched.unary, stream=watched.stream)

    def begin(self, method: str, statistics: MethodStatistics, context: Context) -> Recorder:
        """A call has come: everything that is done for it from here on is recorded."""
        metadata = {name: str(value) for name, value in context.invocation_metadata() or ()}
        request_id = metadata.get(REQUEST_ID_KEY, "")
        recorder = Recorder(
            request_id if _REQUEST_ID.fullmatch(request_id) else secrets.token_hex(8),
            None if self._tracing is None else self._tracing.begin(f"duovec.v1.{method}", metadata),
            is_told=metadata.get(TIMING_KEY) == "1",
            on_batch=statistics.observe_batch,
        )
        statistics.running_count += 1
        stages.record(recorder)
        return recorder

    def end(self, method: str, statistics: MethodStatistics, recorder: Recorder, code: str, *, is_stream: bool) -> None:
        """It has been answered, or has failed."""
        statistics.running_count -= 1
        statistics.observe_call(code, recorder, is_stream=is_stream)
        if recorder.span is not None:
            recorder.span.end_call(code)
        if code != "OK" or self._log_requests:
            self._log(method, recorder, code)

    def _log(self, method: str, recorder: Recorder, code: str) -> None:
        """One line, without a word of the request: the message of an error may quote it, its reason does not."""
        duration_ms = recorder.elapsed_s * 1e3
        principal_id = current_principal_id() or "-"
        logger.log(
            _LEVELS.get(code, logging.INFO),
            "%s %s%s in %.1f ms, principal %s, request %s",
            method,
            code,
            f" {recorder.reason}" if recorder.reason else "",
            duration_ms,
            principal_id,
            recorder.request_id,
            extra={
                "method": method,
                "code": code,
                "reason": recorder.reason,
                "duration_ms": round(duration_ms, 3),
                "principal_id": principal_id,
            },
        )


class _Watch:
    """The watch over one method."""

    def __init__(self, interceptor: ObservingInterceptor, method: str) -> None:
        self._interceptor = interceptor
        self._method = method
        self._statistics = interceptor._statistics.of(method)

    def unary(self, behavior: Unary) -> Unary:
        async def call(request: Any, context: Context) -> Any:
            recorder = self._interceptor.begin(self._method, self._statistics, context)
            code = "OK"
            try:
                response = await behavior(request, context)
                if timing := stages.trailing_timing():
                    context.set_trailing_metadata(timing)
                return response
            except BaseException:
                code = _failure(context)
                raise
            finally:
                self._interceptor.end(self._method, self._statistics, recorder, code, is_stream=False)

        return call

    def stream(self, behavior: Stream) -> Stream:
        async def call(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            recorder = self._interceptor.begin(self._method, self._statistics, context)
            item_codes = self._statistics.item_code_counts
            code = "OK"
            try:
                async for response in behavior(requests, context):
                    item_codes[_NAMES.get(response.error.code, "UNKNOWN")] += 1
                    yield response
                if timing := stages.trailing_timing():
                    context.set_trailing_metadata(timing)
            except BaseException:
                code = _failure(context)
                raise
            finally:
                self._interceptor.end(self._method, self._statistics, recorder, code, is_stream=True)

        return call


def _failure(context: Context) -> str:
    """The code of a call that has failed: the one that it was aborted with, or what became of it otherwise."""
    code: Any = context.code()
    number = code.value[0] if isinstance(code, grpc.StatusCode) else code
    if number:
        return _NAMES.get(number, "UNKNOWN")
    remaining_s = context.time_remaining()
    return "DEADLINE_EXCEEDED" if remaining_s is not None and remaining_s <= 0 else "CANCELLED"
