"""Spans to an OpenTelemetry collector. The one module that imports opentelemetry, which is the extra `otel`.

What the SDK reads from the environment itself holds: OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_CERTIFICATE.
"""

import importlib.metadata
import time
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanKind, StatusCode, Tracer, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.telemetry.stages import Span

_PROPAGATOR = TraceContextTextMapPropagator()
# A collector that is away must not hold up the gateway's end by more than this.
_EXPORT_TIMEOUT_S = 2.0
# The codes that the conventions for RPC servers call errors: the others are the caller's own.
_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
# What is called for a stage; the rest happens in this process.
_CLIENT_ATTRIBUTES = ("db.system.name", "server.address")


class Tracing:
    """Makes the spans of requests, and sends them in batches from a thread of its own.

    What waits to be sent is bounded; where the collector is away, spans are dropped, and no request notices.
    """

    def __init__(self, endpoint: str) -> None:
        """Prepare; nothing is sent yet.

        Args:
            endpoint: Of the collector's OTLP over gRPC, `http://host:4317`, or `https://` for TLS.
        """
        version = importlib.metadata.version("duovec")
        resource = Resource({"service.name": "duovec-gateway", "service.version": version})
        self._provider = TracerProvider(resource=resource.merge(OTELResourceDetector().detect()))
        exporter = OTLPSpanExporter(
            endpoint=endpoint, insecure=endpoint.startswith("http://"), timeout=_EXPORT_TIMEOUT_S
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("duovec.gateway", version)

    def begin(self, method: str, metadata: Mapping[str, str]) -> Span | None:
        """Begin the span of a call, in its caller's trace where it has one.

        Args:
            method: Such as `duovec.v1.SearchService/Search`.
            metadata: Of the call; `traceparent` and `tracestate` are read.

        Returns:
            None where the call is not sampled.
        """
        service, _, name = method.partition("/")
        return self._begin(method, metadata, {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name})

    def begin_http(self, method: str, headers: Mapping[str, str]) -> Span | None:
        """Begin the span of an HTTP request, such as `POST /v1/embeddings`; as `begin`."""
        verb, _, route = method.partition(" ")
        return self._begin(method, headers, {"http.request.method": verb, "http.route": route})

    def _begin(self, name: str, carrier: Mapping[str, str], attributes: Mapping[str, str]) -> Span | None:
        span = self._tracer.start_span(name, _PROPAGATOR.extract(carrier, Context()), SpanKind.SERVER, attributes)
        return _Span(self._tracer, span) if span.is_recording() else None

    def close(self) -> None:
        """Send what waits, for two seconds at most a batch; blocks."""
        self._provider.shutdown()


class _Span:
    """A span that knows its children by their parent, and leaves the context of the task alone."""

    __slots__ = ("_context", "_span", "_tracer")

    def __init__(self, tracer: Tracer, span: OtelSpan) -> None:
        self._tracer = tracer
        self._span = span
        self._context = set_span_in_context(span, Context())

    @property
    def trace_id(self) -> str:
        return format_trace_id(self._span.get_span_context().trace_id)

    @property
    def headers(self) -> dict[str, str]:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, self._context)
        return carrier

    def begin(self, name: str, attributes: Mapping[str, str | int], *, began_s_ago: float = 0.0) -> "_Span":
        is_call = any(attribute in attributes for attribute in _CLIENT_ATTRIBUTES)
        span = self._tracer.start_span(
            name,
            self._context,
            SpanKind.CLIENT if is_call else SpanKind.INTERNAL,
            attributes,
            start_time=time.time_ns() - round(began_s_ago * 1e9),
        )
        return _Span(self._tracer, span)

    def end(self, error: BaseException | None = None) -> None:
        # The type alone: a message may quote the request.
        if error is not None:
            self._span.set_attribute("error.type", type(error).__qualname__)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()

    def end_call(self, code: str) -> None:
        self._span.set_attribute("rpc.response.status_code", code)
        if code in _FAULTS:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()
