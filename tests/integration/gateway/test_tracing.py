"""One trace from a caller's program through the gateway to Triton and PostgreSQL, by OTLP as a collector takes it."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from trace_receiver import ReceivedSpan, Receiver, Tap, receiving, receiving_by_http, tapped

from duovec.v1.embedding_service_pb2 import EmbedRequest
from duovec.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from duovec.v1.vector_pb2 import INPUT_TYPE_PASSAGE
from gateway.client.client import Client
from gateway.local.stack import Stack
from gateway.local.triton import Triton
from gateway.server import serve
from gateway.settings import Settings

# What somebody's program does who uses OpenTelemetry: its SDK, a span of its own, and duovec's client.
PROGRAM = """
import sys
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from gateway.client.client import Client

collector, endpoint, key = sys.argv[1:]
provider = TracerProvider(resource=Resource({"service.name": "somebody's program"}))
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=collector, insecure=True)))
trace.set_tracer_provider(provider)
with Client(endpoint, api_key=key) as client:
    with trace.get_tracer("program").start_as_current_span("program") as span:
        client.search("traced", "where is a socket opened, asked by a program")
        print(trace.format_trace_id(span.get_span_context().trace_id))
provider.shutdown()
"""


# Triton loses the spans of up to one request in sixteen that was seen; that it loses each of these is not.
_TRACED_CALLS = 8


@dataclass
class Site:
    """A gateway that sends traces, beside that of the session: same database, same Triton."""

    endpoint: str
    collector: str
    receiver: Receiver
    tap: Tap


@pytest.fixture
async def site(stack: Stack, published_models: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    # The SDK's own setting: it sends every five seconds otherwise.
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    environment = stack._gateway_environment
    async with receiving() as (collector, receiver), tapped(environment["DUOVEC_TRITON_URL"]) as (triton_url, tap):
        settings = Settings(
            database_url=environment["DUOVEC_DATABASE_URL"],
            triton_url=triton_url,
            model_repository=published_models,
            listen="127.0.0.1:0",
            otlp_endpoint=collector,
            drain_s=1,
        )
        async with serve(settings) as port:
            yield Site(f"127.0.0.1:{port}", collector, receiver, tap)


def in_trace(spans: list[ReceivedSpan], trace_id: str) -> list[ReceivedSpan]:
    return [span for span in spans if span.span.trace_id.hex() == trace_id]


async def test_one_trace_joins_client_gateway_triton_and_sql(site: Site, stack: Stack, client: Client) -> None:
    """Each part is the child of the one that asked for it, and Triton is told the trace in its own header."""
    client.create_codebase("traced")
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", PROGRAM, site.collector, site.endpoint, stack.api_key],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        env=os.environ | {"PYTHONPATH": "protos"},
    )
    trace_id = ran.stdout.strip()
    rpc = "duovec.v1.SearchService/Search"
    spans = in_trace(
        await site.receiver.until(lambda spans: sum(span.name == rpc for span in in_trace(spans, trace_id)) == 2),
        trace_id,
    )
    by_id = {span.span.span_id: span for span in spans}

    def parent(span: ReceivedSpan) -> ReceivedSpan:
        return by_id[span.span.parent_span_id]

    (served,) = [span for span in spans if span.name == rpc and span.service == "duovec-gateway"]
    assert (parent(served).name, parent(served).service) == (rpc, "somebody's program")
    assert parent(parent(served)).name == "program"
    assert served.attributes["rpc.response.status_code"] == "OK"
    parts = [span for span in spans if span.span.parent_span_id == served.span.span_id]
    assert {"tokenize", "transaction", "triton compact-code", "triton compact-text"} <= {span.name for span in parts}
    assert all(
        served.span.start_time_unix_nano <= part.span.start_time_unix_nano <= part.span.end_time_unix_nano
        for part in parts
    )
    statements = [span.attributes["db.query.text"] for span in spans if span.name == "statement"]
    assert any("embeddings" in str(sql) for sql in statements)
    assert not any("socket" in str(sql) for sql in statements), "values travel apart from the SQL"
    assert {parent(span).name for span in spans if span.name == "statement"} == {"transaction"}
    # The last part has the flags: sampled, and that the id is random.
    told = {metadata["traceparent"][:52] for metadata in site.tap.inferred if "traceparent" in metadata}
    asked = [span for span in parts if span.name.startswith("triton ")]
    assert told == {f"00-{trace_id}-{span.span.span_id.hex()}" for span in asked}
    client.delete_codebase("traced")


async def test_a_caller_that_does_not_sample_is_not_traced(site: Site, stack: Stack) -> None:
    """Nor what the gateway does for nobody; the next call, which is, ends the wait."""
    from duovec.v1.codebase_service_pb2 import ListCodebasesRequest
    from duovec.v1.codebase_service_pb2_grpc import CodebaseServiceStub

    traces = {flag: f"{number:032x}" for number, flag in enumerate(("00", "01"), 0xFACE)}
    async with grpc.aio.insecure_channel(site.endpoint) as channel:
        for flag, trace_id in traces.items():
            metadata = (
                ("authorization", f"Bearer {stack.api_key}"),
                ("traceparent", f"00-{trace_id}-00f067aa0ba902b7-{flag}"),
            )
            await CodebaseServiceStub(channel).ListCodebases(ListCodebasesRequest(), metadata=metadata)
    spans = await site.receiver.until(lambda spans: any(span.name.endswith("/ListCodebases") for span in spans))
    assert {span.span.trace_id.hex() for span in spans} == {traces["01"]}
    (served,) = [span for span in spans if span.name.endswith("/ListCodebases")]
    assert served.span.parent_span_id.hex() == "00f067aa0ba902b7"


async def test_triton_s_own_spans_are_in_the_trace(
    stack: Stack, published_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long a request lay in its queue and was computed, below the gateway's span; none of untraced calls."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    async with AsyncExitStack() as parts:
        traces_url, of_triton = parts.enter_context(receiving_by_http())
        triton = Triton(
            published_models,
            ("compact-code", "compact-text"),
            work_dir=tmp_path / "triton",
            log_path=tmp_path / "triton.log",
            traces_url=traces_url,
        )
        await triton.start()
        parts.push_async_callback(triton.stop)
        async with receiving() as (collector, receiver):
            settings = Settings(
                database_url=stack._gateway_environment["DUOVEC_DATABASE_URL"],
                triton_url=triton.url,
                model_repository=published_models,
                listen="127.0.0.1:0",
                otlp_endpoint=collector,
                cache_max_texts=0,
                drain_s=1,
            )
            async with serve(settings) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                # Of some requests Triton misreads the header, which its gRPC front end takes for a string that ends
                # with a zero: so several calls, of which one at least it reads for both encoders. See DECISIONS.md.
                for number in range(_TRACED_CALLS):
                    for flag, trace in (("00", 0xDEAD), ("01", 0xBEEF + number)):
                        metadata = (
                            ("authorization", f"Bearer {stack.api_key}"),
                            ("traceparent", f"00-{trace:032x}-00f067aa0ba902b7-{flag}"),
                        )
                        request = EmbedRequest(texts=["traced in Triton"], input_type=INPUT_TYPE_PASSAGE)
                        await EmbeddingServiceStub(channel).Embed(request, metadata=metadata)
                spans = await receiver.until(
                    lambda spans: sum(span.name.endswith("/Embed") for span in spans) == _TRACED_CALLS
                )

        def whole() -> str | None:
            """A trace that Triton has sent the spans of both encoders of."""
            traces = Counter(span["traceId"] for span in list(of_triton) if span["name"] == "InferRequest")
            return next((trace_id for trace_id, count in traces.items() if count == 2), None)

        async with asyncio.timeout(60):
            while (trace_id := whole()) is None:
                await asyncio.sleep(0.05)
    assert {span["traceId"] for span in of_triton} <= {f"{0xBEEF + number:032x}" for number in range(_TRACED_CALLS)}
    of_triton = [span for span in of_triton if span["traceId"] == trace_id]
    parents = {span["spanId"]: span.get("parentSpanId") for span in of_triton}
    roots = {parent for parent in parents.values() if parent not in parents}
    assert roots == {span.span.span_id.hex() for span in in_trace(spans, trace_id) if span.name.startswith("triton ")}
    assert sum(span["name"] == "compute" for span in of_triton) == 2
    models = {span["name"]: parents[span["parentSpanId"]] for span in of_triton if span["name"].startswith("compact")}
    assert models.keys() == {"compact-code", "compact-text"}
    assert set(models.values()) == roots
    events = {event["name"] for span in of_triton for event in span.get("events", [])}
    assert {"QUEUE_START", "COMPUTE_START", "COMPUTE_END"} <= events


async def test_a_collector_that_is_away_holds_nothing_up(
    stack: Stack, published_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a call nor the end of the gateway: it ends well within the 30 s of the SDK's own patience."""
    environment = stack._gateway_environment
    settings = Settings(
        database_url=environment["DUOVEC_DATABASE_URL"],
        triton_url=environment["DUOVEC_TRITON_URL"],
        model_repository=published_models,
        listen="127.0.0.1:0",
        otlp_endpoint="http://127.0.0.1:9",
        drain_s=1,
    )
    async with AsyncExitStack() as gateway:
        port = await gateway.enter_async_context(serve(settings))
        async with asyncio.timeout(25):
            with Client(f"127.0.0.1:{port}", api_key=stack.api_key) as client:
                await asyncio.to_thread(lambda: list(client.list_codebases()))
            await gateway.aclose()
