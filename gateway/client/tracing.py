"""Calls as spans of the caller's own trace, where its program has OpenTelemetry and uses it.

Nothing of it is imported here: a program that has not imported `opentelemetry.trace` has no trace to be part of.
"""

import importlib.util
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

_SERVICES = "/duovec."


def traced(channel: grpc.Channel) -> grpc.Channel:
    """A channel whose calls carry the trace that they are made in; the channel itself without OpenTelemetry."""
    if importlib.util.find_spec("opentelemetry") is None:
        return channel
    return grpc.intercept_channel(channel, _TraceInterceptor())


class _Details(NamedTuple):
    """What is told of a call; `grpc.ClientCallDetails` in the form that may be built."""

    method: str
    timeout: float | None
    metadata: tuple[tuple[str, str | bytes], ...]
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _TraceInterceptor(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    """One span a call, each repetition of its own."""

    def intercept_unary_unary(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        details, end = _begin(client_call_details)
        try:
            call = continuation(details, request)
        except BaseException:
            end(None)
            raise
        end(call.code())  # every call of ours blocks: it has ended
        return call

    def intercept_stream_stream(
        self, continuation: Callable[..., Any], client_call_details: Any, request_iterator: Any
    ) -> Any:
        details, end = _begin(client_call_details)
        call = continuation(details, request_iterator)
        if not call.add_callback(lambda: end(call.code())):
            end(call.code())  # it has ended already
        return call


def _begin(details: Any) -> tuple[Any, Callable[[grpc.StatusCode | None], None]]:
    """Begin the span of a call: what is told of the call from now on, and what ends the span."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or not details.method.startswith(_SERVICES):
        return details, lambda code: None
    from opentelemetry import propagate

    service, _, method = details.method.lstrip("/").partition("/")
    span = trace.get_tracer("duovec.client").start_span(
        f"{service}/{method}",
        kind=trace.SpanKind.CLIENT,
        attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
    )
    carrier: dict[str, str] = {}
    propagate.inject(carrier, trace.set_span_in_context(span))
    carried = _Details(
        details.method,
        details.timeout,
        (*(details.metadata or ()), *carrier.items()),
        details.credentials,
        details.wait_for_ready,
        details.compression,
    )

    def end(code: grpc.StatusCode | None) -> None:
        if code is not None:
            span.set_attribute("rpc.response.status_code", code.name)
        if code is not grpc.StatusCode.OK:
            span.set_status(trace.StatusCode.ERROR)
        span.end()

    return carried, end
