"""Calls as spans of the caller's own trace, where its program has OpenTelemetry and uses it.

Nothing of it is imported here: a program that has not imported `opentelemetry.trace` has no trace to be part of.
"""

import sys
from collections.abc import Callable

from gateway.client.rpc import Metadata

_PACKAGE = "duovec."

End = Callable[[str | None], None]


def begin_span(rpc: str, metadata: Metadata) -> tuple[Metadata, End]:
    """Begin the span of a call.

    Args:
        rpc: `package.Service/Method`.
        metadata: What the call carries.

    Returns:
        What it carries with its trace, and what ends the span: called with the name of the call's code, or None where
        there is none.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or not rpc.startswith(_PACKAGE):
        return metadata, lambda code: None
    from opentelemetry import propagate

    service, _, method = rpc.partition("/")
    span = trace.get_tracer("duovec.client").start_span(
        rpc,
        kind=trace.SpanKind.CLIENT,
        attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
    )
    carrier: dict[str, str] = {}
    propagate.inject(carrier, trace.set_span_in_context(span))

    def end(code: str | None) -> None:
        if code is not None:
            span.set_attribute("rpc.response.status_code", code)
        if code != "OK":
            span.set_status(trace.StatusCode.ERROR)
        span.end()

    return (*metadata, *carrier.items()), end
