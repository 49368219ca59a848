"""What `duovec status` makes of the service's answer."""

import json
from collections.abc import Iterator

import pytest
import typer
from client.fake_service import FakeService, serving
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import CliRunner

from duovec.v1 import status_service_pb2 as pb
from gateway.cli.status import status
from gateway.client.client import Client

runner = CliRunner()
app = typer.Typer()
app.command()(status)
THEN = Timestamp(seconds=1_795_000_000)


@pytest.fixture(autouse=True)
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("COLUMNS", "80")
    with serving(FakeService()) as endpoint:
        monkeypatch.setenv("DUOVEC_ENDPOINT", endpoint)
        yield endpoint


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> pb.GetStatusResponse:
    """What the service says; its own test is with the real one."""
    message = pb.GetStatusResponse(
        space="a" * 64,
        cache=pb.CacheStatus(max_text_count=50_000, hit_count=1_234, miss_count=56, shared_count=7, evicted_count=8),
        recall_checks=[
            pb.RecallCheck(codebase_id="fine", check_time=THEN, method="HNSW", ef=300, index_suffices=True,
                           query_count=20, mean_recall=0.998, minimum_recall=0.9, target_recall=0.95),
            pb.RecallCheck(codebase_id="raised", check_time=THEN, method="HNSW", ef=550, raised=True,
                           index_suffices=True, query_count=20, mean_recall=0.96, minimum_recall=0.7,
                           target_recall=0.95),
            pb.RecallCheck(codebase_id="whole", check_time=THEN, method="HNSW", ef=1000, raised=True,
                           searched_exactly=True, query_count=20, mean_recall=0.5, minimum_recall=0.1,
                           target_recall=0.95),
            pb.RecallCheck(codebase_id="huge", check_time=THEN, method="BINARY", ef=1000, raised=True, query_count=20,
                           mean_recall=0.9, minimum_recall=0.4, target_recall=0.95),
        ],
        tables=[
            pb.TableStatus(table="embeddings_s1", row_count=100_000, table_bytes=820 * 2**20, index_bytes=60 * 2**20,
                           vacuum_time=THEN),
            pb.TableStatus(table="chunks", row_count=100_000, dead_row_count=40_000, table_bytes=90 * 2**20),
        ],
        advice=[pb.Advice(subject="chunks", finding="has dead rows", command="VACUUM (ANALYZE) chunks;")],
        start_time=THEN,
        methods=[
            pb.MethodStatus(method="SearchService/Search", call_count=12_345, failed_call_count=6, calls_per_second=7.5,
                            median_milliseconds=5.25, p99_milliseconds=1_250),
            pb.MethodStatus(method="EmbeddingService/StreamEmbed", running_call_count=1, item_count=640),
        ],
        admission=pb.AdmissionStatus(pending_token_count=1_000, max_pending_token_count=262_144, stream_count=3,
                                     max_stream_count=32, waiting_batch_count=4, refused_call_count=5,
                                     refused_stream_count=6, tokens_per_second=19_000.4),
    )  # fmt: skip
    monkeypatch.setattr(Client, "status", lambda self: message)
    return message


def test_it_shows_recall_tables_cache_and_advice(answer: pb.GetStatusResponse) -> None:
    """In 80 columns; the command of an advice stands on a line of its own, to be copied."""
    result = runner.invoke(app)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    searched = {
        line.split("│")[1].strip(): line.split("│")[6].strip() for line in lines if "HNSW" in line or "BIN" in line
    }
    assert searched == {"fine": "as usual", "raised": "further", "whole": "exactly", "huge": "below 0.95"}
    assert "never" in next(line for line in lines if line.startswith("│ chunks"))
    assert "embedding cache: 1,234 hits, 56 misses, 7 shared, 8 evicted" in lines
    assert lines[-2:] == ["chunks has dead rows:", "    VACUUM (ANALYZE) chunks;"]


def test_it_shows_calls_and_what_is_in_work(answer: pb.GetStatusResponse) -> None:
    """Rates and times by RPC, the limits, and what was refused."""
    lines = runner.invoke(app).stdout.splitlines()
    assert any(line.startswith("┃ calls since 11-18 11:06") for line in lines)
    (search,) = [line for line in lines if "Search.Search" in line]
    assert [cell.strip() for cell in search.strip("│").split("│")] == [
        *("Search.Search", "12,345", "6", "7.50", "5.2 ms", "1.2 s"),
    ]
    assert "in work: 1,000 of 262,144 tokens, 3 of 32 streams, 4 batches in line" in lines
    assert "refused: 5 calls, 6 streams; the encoders do 19,000 tokens a second" in lines


def test_an_older_gateway_s_answer_is_shown_without_them(answer: pb.GetStatusResponse) -> None:
    for field in ("methods", "admission", "start_time"):
        answer.ClearField(field)
    result = runner.invoke(app)
    assert result.exit_code == 0, result.output
    assert "calls since" not in result.stdout
    assert "in work" not in result.stdout


def test_json_has_every_field_with_numbers_as_numbers(answer: pb.GetStatusResponse) -> None:
    document = json.loads(runner.invoke(app, ["--json"]).stdout)
    assert (document["space"], document["cache"]["hit_count"]) == ("a" * 64, 1234)
    assert document["cache"]["read_failure_count"] == 0
    assert document["recall_checks"][0]["mean_recall"] == 0.998
    assert document["recall_checks"][0]["raised"] is False
    assert document["recall_checks"][0]["check_time"] == THEN.ToJsonString()
    assert document["tables"][0]["table_bytes"] == 820 * 2**20
    assert "vacuum_time" not in document["tables"][1]
    assert document["advice"] == [
        {"subject": "chunks", "finding": "has dead rows", "command": "VACUUM (ANALYZE) chunks;"}
    ]


def test_failures_of_the_cache_and_a_cache_that_is_off_are_said(answer: pb.GetStatusResponse) -> None:
    answer.cache.read_failure_count = 3
    assert "8 evicted, 3 failures" in runner.invoke(app).stdout
    answer.cache.Clear()
    assert "embedding cache: off" in runner.invoke(app).stdout


def test_a_gateway_without_this_call_is_shown_all_the_same() -> None:
    """As for callers who are no administrators: health and codebases are for everybody."""
    result = runner.invoke(app, ["--json"])
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.stdout)) == {"endpoint", "health", "codebases"}
