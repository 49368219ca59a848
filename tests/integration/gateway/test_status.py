"""StatusService on the real stack."""

import time
from datetime import UTC

import pytest
from polling import until
from steady_cache import with_steady_cache

from duovec.v1.status_service_pb2 import GetStatusResponse, MethodStatus
from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.local.stack import Stack


def test_an_administrator_sees_the_cache_and_the_tables(client: Client) -> None:
    """Counters go up by what was asked; the partition of the space is among the tables."""

    def calls(attempt: int) -> tuple[GetStatusResponse, GetStatusResponse]:
        before = client.status()
        for _ in range(2):
            client.embed([f"text {attempt} for the status"] * 2 + [f"and another {attempt}"], "passage")
        return before, client.status()

    before, after = with_steady_cache(client, calls)
    cache, was = after.cache, before.cache
    # The second call's texts are hits, or share the pass that is still being written.
    assert cache.miss_count - was.miss_count == 2
    assert cache.hit_count + cache.shared_count - was.hit_count - was.shared_count == 4
    assert cache.max_text_count == 50_000
    assert len(after.space) == 64
    names = {table.table for table in after.tables}
    assert {"chunks", "cached_embeddings", "principals"} < names
    assert any(name.startswith("embeddings_s") for name in names)
    sizes = [table.table_bytes + table.index_bytes for table in after.tables]
    assert sizes == sorted(sizes, reverse=True)


def test_calls_are_counted_with_their_times(client: Client) -> None:
    """Three more of one RPC, one of them failed; the call that asks is running."""
    before = {method.method: method for method in client.status().methods}
    client.embed(["one"], "query")
    client.embed(["two"], "query")
    with pytest.raises(ClientError):
        client.embed([" "], "query")
    was = before.get("EmbeddingService/Embed", MethodStatus())

    def status() -> tuple[float, GetStatusResponse, float]:
        asked = time.time()
        return asked, client.status(), time.time()

    def has_all(seen: tuple[float, GetStatusResponse, float]) -> bool:
        counts = {method.method: method.call_count for method in seen[1].methods}
        return counts["EmbeddingService/Embed"] - was.call_count >= 3

    # Who fails is told before it is counted.
    asked, after, answered = until(status, has_all)
    methods = {method.method: method for method in after.methods}
    now = methods["EmbeddingService/Embed"]
    assert now.call_count - was.call_count == 3
    assert now.failed_call_count - was.failed_call_count == 1
    assert 0 < now.median_milliseconds <= now.p99_milliseconds < 60_000
    assert methods["StatusService/GetStatus"].running_call_count == 1
    start = after.start_time.ToDatetime(UTC).timestamp()
    assert asked - start - 0.1 <= now.call_count / now.calls_per_second <= answered - start + 0.1
    admission = after.admission
    assert (admission.pending_token_count, admission.max_pending_token_count) == (0, 262_144)
    assert (admission.stream_count, admission.max_stream_count) == (0, 32)
    assert admission.tokens_per_second > 0


def test_others_are_refused_and_health_is_theirs_all_the_same(stack: Stack, client: Client) -> None:
    client.access.create_principal("status-reader")
    with Client(stack.endpoint, api_key=client.access.create_api_key("status-reader").key) as reader:
        with pytest.raises(ClientError) as failure:
            reader.status()
        assert (failure.value.code.name, failure.value.reason) == ("PERMISSION_DENIED", "ADMIN_REQUIRED")
        assert reader.health() == "SERVING"
    client.access.delete_principal("status-reader")
