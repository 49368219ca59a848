"""Feedback and quality on the command line: what is sent, and what is shown."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from client.fake_service import FakeService, serving
from typer.testing import CliRunner

from duovec.v1 import chunk_pb2, search_service_pb2
from gateway.cli.feedback import feedback
from gateway.cli.quality import quality
from gateway.cli.search import search

from .quality_rows import SPACE, make_row

runner = CliRunner()
app = typer.Typer()
for command in (search, feedback, quality):
    app.command()(command)

FULL = make_row(
    1,
    judged_count=50,
    click_through_at_1=0.125,
    click_through_at_3=0.2,
    click_through_at_10=0.305,
    mrr=0.6125,
    ndcg_at_10=0.71,
    query_drift=-0.0014,
    drift_query_count=180,
    drift_reference_count=190,
)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture(autouse=True)
def endpoint(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("COLUMNS", "80")
    with serving(service) as endpoint:
        monkeypatch.setenv("DUOVEC_ENDPOINT", endpoint)
        yield endpoint


def store_chunks(service: FakeService, count: int) -> None:
    service.stored["x"] = {
        (f"{n}.py", bytes(32), 0): chunk_pb2.Chunk(path=f"{n}.py", language="python", start_line=1, end_line=1)
        for n in range(count)
    }


def test_search_says_how_to_give_feedback(service: FakeService) -> None:
    """The id is that of the first page, whatever pages follow; as JSON a field of its own."""
    store_chunks(service, 3)
    result = runner.invoke(app, ["search", "steps", "--page-size", "2"])
    assert result.exit_code == 0, result.output
    assert f"useful? duovec feedback {service.search_id} --useful 0\n" in result.stdout
    document = json.loads(runner.invoke(app, ["search", "steps", "--page-size", "2", "--json"]).stdout)
    assert (document["search_id"], len(document["hits"])) == (service.search_id, 3)


@pytest.mark.parametrize("chunk_count", [0, 2])
def test_a_search_that_is_not_logged_asks_for_none(service: FakeService, chunk_count: int) -> None:
    store_chunks(service, chunk_count)
    service.search_id = "" if chunk_count else service.search_id
    assert "duovec feedback" not in runner.invoke(app, ["search", "steps"]).stdout


def test_feedback_sends_what_was_said(service: FakeService) -> None:
    words = ["--useful", "4", "--useful", "5", "--not-useful", "6", "--opened", "4"]
    result = runner.invoke(app, ["feedback", "some-id", *words])
    assert (result.exit_code, result.stdout) == (0, "recorded for 3 hits\n")
    [request] = service.feedback
    assert request.search_id == "some-id"
    assert [(item.chunk_id, item.signal) for item in request.items] == [
        (4, search_service_pb2.FEEDBACK_SIGNAL_OPENED),
        (4, search_service_pb2.FEEDBACK_SIGNAL_USEFUL),
        (5, search_service_pb2.FEEDBACK_SIGNAL_USEFUL),
        (6, search_service_pb2.FEEDBACK_SIGNAL_NOT_USEFUL),
    ]


def test_feedback_of_nothing_is_wrong_use(service: FakeService) -> None:
    result = runner.invoke(app, ["feedback", "some-id"])
    assert (result.exit_code, service.feedback) == (2, [])


def test_quality_is_a_table_that_fits_a_terminal(service: FakeService) -> None:
    """One for each codebase; a dash where there is no figure, not a zero."""
    service.quality = [make_row(0, ""), make_row(0), FULL]
    result = runner.invoke(app, ["quality", "--weeks", "5"])
    assert result.exit_code == 0, result.output
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    assert "all codebases together, space abababababab" in result.stdout
    rows = re.findall(r"^ *(2026-\S+) +(.*?) *$", result.stdout, re.MULTILINE)
    assert [(week, line.split()) for week, line in rows] == [
        ("2026-09-07", ["200", "2%", "0%", "0%", "0%", "0%", "–", "–", "–"]),
        ("2026-09-07", ["200", "2%", "0%", "0%", "0%", "0%", "–", "–", "–"]),
        ("2026-09-14", ["200", "2%", "25%", "12%", "20%", "30%", "0.61", "0.71", "-0.001"]),
    ]
    assert {(request.week_count, request.codebase_id) for request in service.quality_requests} == {(5, "")}


def test_quality_for_programs_has_every_figure(service: FakeService) -> None:
    service.quality = [make_row(0), FULL]
    result = runner.invoke(app, ["quality", "--codebase", "demo", "--space", SPACE, "--json"])
    bare, full = json.loads(result.stdout)["rows"]
    assert (bare["mrr"], bare["ndcg_at_10"], bare["query_drift"]) == (None, None, None)
    assert full == {
        "codebase_id": "demo",
        "space": SPACE,
        "week_start": "2026-09-14T00:00:00Z",
        "search_count": 200,
        "zero_hit_count": 4,
        "zero_hit_share": 0.02,
        "judged_count": 50,
        "judged_share": 0.25,
        "click_through_at_1": 0.125,
        "click_through_at_3": 0.2,
        "click_through_at_10": 0.305,
        "mrr": 0.6125,
        "ndcg_at_10": 0.71,
        "query_drift": -0.0014,
        "drift_query_count": 180,
        "drift_reference_count": 190,
    }
    [request] = service.quality_requests
    assert (request.codebase_id, request.space) == ("demo", SPACE)


def test_quality_of_nothing_says_so(service: FakeService, tmp_path: Path) -> None:
    result = runner.invoke(app, ["quality", "--html", str(tmp_path / "page.html")])
    assert (result.exit_code, "no search was logged" in result.stdout) == (0, True)
    assert "No search was logged" in (tmp_path / "page.html").read_text()


def test_a_page_that_cannot_be_written_is_one_line(service: FakeService, tmp_path: Path) -> None:
    service.quality = [FULL]
    result = runner.invoke(app, ["quality", "--html", str(tmp_path / "missing" / "page.html")])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ") and "page.html" in result.stderr
