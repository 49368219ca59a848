"""The client's calls are spans of its program's trace, and carry it."""

import sys
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from client.fake_service import FakeService, serving
from duovec.v1 import chunk_pb2
from gateway.client.client import AsyncClient, Client
from gateway.client.errors import ClientError


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What a program would have sent; the process's own provider may be set only once."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> Iterator[Client]:
    with serving(service) as endpoint, Client(endpoint, api_key="k") as client:
        yield client


def code_of(span: ReadableSpan) -> object:
    return (span.attributes or {})["rpc.response.status_code"]


def test_a_call_carries_its_trace_beside_its_key(
    client: Client, service: FakeService, exporter: InMemorySpanExporter
) -> None:
    client.embed(["a"], "query")
    (span,) = exporter.get_finished_spans()
    context = span.get_span_context()
    assert context is not None
    assert service.metadata["traceparent"].startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")
    assert service.metadata["authorization"] == "Bearer k"
    assert (span.name, code_of(span)) == ("duovec.v1.EmbeddingService/Embed", "OK")


def test_each_repetition_of_a_call_is_a_span(
    client: Client, service: FakeService, exporter: InMemorySpanExporter
) -> None:
    service.overloaded = 2
    client.embed(["a"], "query")
    assert [code_of(span) for span in exporter.get_finished_spans()] == ["RESOURCE_EXHAUSTED"] * 2 + ["OK"]


def test_a_call_that_fails_says_what_it_says_without_a_trace(client: Client, exporter: InMemorySpanExporter) -> None:
    """With its code, reason and fields."""
    with pytest.raises(ClientError) as failure:
        client.embed(["a", " "], "query")
    assert (failure.value.code.name, failure.value.reason) == ("INVALID_ARGUMENT", "INVALID_INPUT")
    assert [violation.field for violation in failure.value.violations] == ["texts[1]"]
    (span,) = exporter.get_finished_spans()
    assert (code_of(span), span.status.status_code) == ("INVALID_ARGUMENT", trace.StatusCode.ERROR)


def test_a_stream_is_one_span_to_its_end(client: Client, service: FakeService, exporter: InMemorySpanExporter) -> None:
    client.create_codebase("c")
    exporter.clear()
    outcomes = client.index_chunks("c", (chunk_pb2.Chunk(path=f"{number}.py") for number in range(3)), window=1)
    next(outcomes)
    assert exporter.get_finished_spans() == ()
    assert len(list(outcomes)) == 2
    (span,) = exporter.get_finished_spans()
    assert (span.name, code_of(span)) == ("duovec.v1.IndexService/IndexChunks", "OK")


def test_a_stream_that_is_given_up_is_a_span_that_was_cancelled(
    client: Client, service: FakeService, exporter: InMemorySpanExporter
) -> None:
    client.create_codebase("c")
    exporter.clear()
    outcomes = client.index_chunks("c", (chunk_pb2.Chunk(path=f"{number}.py") for number in range(9)), window=3)
    next(outcomes)
    outcomes.close()
    (span,) = exporter.get_finished_spans()
    assert code_of(span) == "CANCELLED"


async def test_the_asynchronous_client_s_calls_are_spans_too(
    client: Client, service: FakeService, exporter: InMemorySpanExporter
) -> None:
    """Each carries its own trace."""
    service.stored["c"] = {}
    service.overloaded = 1
    async with AsyncClient(client.endpoint, api_key="k") as caller:
        await caller.embed(["a"], "query")
        assert [code_of(span) for span in exporter.get_finished_spans()] == ["RESOURCE_EXHAUSTED", "OK"]
        context = exporter.get_finished_spans()[-1].get_span_context()
        assert context is not None
        assert service.metadata["traceparent"].startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")
        exporter.clear()
        assert len([one async for one in caller.index_chunks("c", [chunk_pb2.Chunk(path="1.py")])]) == 1
    (span,) = exporter.get_finished_spans()
    assert (span.name, code_of(span)) == ("duovec.v1.IndexService/IndexChunks", "OK")


def test_a_program_without_opentelemetry_has_no_spans(
    client: Client, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that did not import it is enough."""
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    client.embed(["a"], "query")
    assert "traceparent" not in service.metadata
