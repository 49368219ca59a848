"""The times of the stages in the reply, on the real stack."""

import json

from steady_cache import with_steady_cache
from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.client.client import Client
from gateway.local.stack import Stack


def test_a_search_says_where_its_time_went(stack: Stack, client: Client) -> None:
    """The first goes through every stage; the second finds its vector in the cache, and asks no encoder."""
    client.create_codebase("timed")

    def searches(attempt: int) -> list[dict[str, float]]:
        times: list[dict[str, float]] = []
        with Client(stack.endpoint, api_key=stack.api_key, on_timing=times.append) as timed:
            for _ in range(3):
                timed.search("timed", f"where does the time go in this search, {attempt}")
        return times

    times = with_steady_cache(client, searches)
    client.delete_codebase("timed")
    first, last = times[0], times[-1]
    assert list(first) == ["tokenize", "queue", "infer", "database", "total"]
    assert all(first[stage] > 0 for stage in ("tokenize", "infer", "database"))
    assert (last["infer"], last["tokenize"] > 0, last["database"] > 0) == (0.0, True, True)
    assert all(max(seen.values()) == seen["total"] for seen in times)


def test_the_search_command_shows_it(stack: Stack, client: Client) -> None:
    """For people on stderr, beside the hits; for programs in the document, one entry a page."""
    client.create_codebase("timed")
    common = ["search", "anything", "--codebase", "timed", "--timing", "--endpoint", stack.endpoint]
    shown = CliRunner().invoke(app, [*common, "--api-key", stack.api_key])
    document = CliRunner().invoke(app, [*common, "--api-key", stack.api_key, "--json"])
    client.delete_codebase("timed")
    assert shown.exit_code == 0, shown.output
    assert shown.stderr.startswith("page 1: tokenize ")
    assert [sorted(page) for page in json.loads(document.stdout)["timing_ms"]] == [
        ["database", "infer", "queue", "tokenize", "total"]
    ]
