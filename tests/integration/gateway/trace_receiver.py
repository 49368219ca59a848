"""A collector of OpenTelemetry traces, and a Triton that is passed through and listened to."""

# ruff: noqa: N802 - the methods are named after the RPCs.

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it came over the wire."""

    service: str
    span: Span

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def attributes(self) -> dict[str, str | int]:
        return {pair.key: pair.value.string_value or pair.value.int_value for pair in self.span.attributes}


class Receiver(TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[ReceivedSpan] = []
        self._arrived = asyncio.Event()

    async def Export(self, request: Any, context: Any) -> ExportTraceServiceResponse:
        for group in request.resource_spans:
            (service,) = [pair.value.string_value for pair in group.resource.attributes if pair.key == "service.name"]
            self.spans += [ReceivedSpan(service, span) for scope in group.scope_spans for span in scope.spans]
        self._arrived.set()
        return ExportTraceServiceResponse()

    async def until(self, enough: Callable[[list[ReceivedSpan]], bool]) -> list[ReceivedSpan]:
        """Wait for spans; the test's own limit ends a wait in vain."""
        while not enough(self.spans):
            self._arrived.clear()
            await self._arrived.wait()
        return self.spans


@contextmanager
def receiving_by_http() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Collect what Triton sends, JSON by HTTP; gives its URL and the spans."""
    spans: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            document = json.loads(self.rfile.read(int(self.headers["content-length"])))
            for group in document["resourceSpans"]:
                spans.extend(span for scope in group["scopeSpans"] for span in scope["spans"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
        finally:
            server.shutdown()


@asynccontextmanager
async def receiving() -> AsyncIterator[tuple[str, Receiver]]:
    """Collect on a free port; gives its URL."""
    server, receiver = grpc.aio.server(), Receiver()
    add_TraceServiceServicer_to_server(receiver, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"http://127.0.0.1:{port}", receiver
    await server.stop(None)


@dataclass
class Tap(grpc.GenericRpcHandler):
    """Passes unary calls on as they are, and keeps the metadata of those of one method."""

    target: grpc.aio.Channel
    inferred: list[dict[str, str]] = field(default_factory=list)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method
        passed_on = self.target.unary_unary(method)

        async def call(request: bytes, context: Any) -> bytes:
            if method.endswith("/ModelInfer"):
                self.inferred.append(dict(context.invocation_metadata()))
            return bytes(await passed_on(request))

        return grpc.unary_unary_rpc_method_handler(call)


@asynccontextmanager
async def tapped(url: str) -> AsyncIterator[tuple[str, Tap]]:
    """Stand before a Triton; gives the address to ask instead."""
    async with grpc.aio.insecure_channel(url) as channel:
        tap, server = Tap(channel), grpc.aio.server()
        server.add_generic_rpc_handlers((tap,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        yield f"127.0.0.1:{port}", tap
        await server.stop(None)
