"""Prometheus reads the running gateway, and every panel and alert of ours finds what it asks for."""

import asyncio
import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chunk_streams import index_chunks
from polling import until
from prometheus_client.parser import text_string_to_metric_families
from prometheus_tools import prometheus_tool
from steady_cache import with_steady_cache

from duovec.v1 import chunk_pb2, index_service_pb2
from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.local.process import free_port
from gateway.local.stack import Stack

ROOT = Path(__file__).parents[3]
BOARD = ROOT / "deploy" / "grafana" / "dashboards" / "duovec.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
# Prometheus says these of what it scrapes.
_ITS_OWN = {"up"}


def scrape(stack: Stack) -> str:
    with urllib.request.urlopen(f"http://{stack.metrics_endpoints[0]}/metrics") as reply:
        text: str = reply.read().decode()
        return text


def samples(stack: Stack) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Values by name and labels."""
    families = text_string_to_metric_families(scrape(stack))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def total(found: dict[Any, float], name: str, **labels: str) -> float:
    return sum(value for (at, has), value in found.items() if at == name and labels.items() <= dict(has).items())


def expressions() -> list[str]:
    """Of every panel, with Grafana's variables filled in, and of every alert."""
    board = json.loads(BOARD.read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    asked = [text.replace("$instance", ".*").replace("$__rate_interval", "1m") for text in asked]
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    return asked + [rule["expr"] for rule in rules]


@pytest.fixture
def used(stack: Stack, client: Client) -> Iterator[None]:
    """A gateway that was searched, indexed into and asked in vain."""
    client.create_codebase("measured")
    client.search("measured", "a search for the metrics")
    chunk = chunk_pb2.Chunk(
        path="a.py", language="python", kind="text", start_line=1, end_line=1, content="def measured(): pass",
        file_sha256=bytes(32), file_chunk_count=1,
    )  # fmt: skip
    items = [index_service_pb2.IndexChunksRequest(codebase_id="measured", item_id="1", chunk=chunk)]
    assert [reply.WhichOneof("outcome") for reply in index_chunks(client, iter(items))] == ["indexed"]
    with pytest.raises(ClientError):
        client.get_codebase("not-there")
    yield
    client.delete_codebase("measured")


def test_what_was_done_is_counted(stack: Stack, client: Client) -> None:
    """By method and code; by stage; towards Triton with the padding; by what became of texts."""
    before: dict[Any, float] = {}
    after: dict[Any, float] = {}
    embed = {"method": "EmbeddingService/Embed"}

    def grown(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    def embeds(found: dict[Any, float]) -> float:
        return total(found, "duovec_requests_total", **embed)

    def calls(attempt: int) -> tuple[dict[Any, float], dict[Any, float]]:
        before = samples(stack)
        long = f"{attempt} words and many more of them, so that the rows of a request differ in length " * 3
        client.embed([f"one {attempt}", long], "passage")
        client.embed([f"one {attempt}", long], "passage")
        with pytest.raises(ClientError):
            client.embed([" "], "passage")
        # Who fails is told before it is counted.
        return before, until(lambda: samples(stack), lambda found: embeds(found) >= embeds(before) + 3)

    before, after = with_steady_cache(client, calls)
    assert grown("duovec_requests_total", **embed, code="OK") == 2
    assert grown("duovec_requests_total", **embed, code="INVALID_ARGUMENT") == 1
    assert grown("duovec_request_duration_seconds_count", **embed) == 3
    assert grown("duovec_stage_duration_seconds_count", **embed, stage="tokenize") == 2
    assert grown("duovec_stage_duration_seconds_count", **embed, stage="infer") == 1
    assert 0 < grown("duovec_stage_duration_seconds_sum", **embed) < grown("duovec_request_duration_seconds_sum") * 4
    for encoder in ("compact-code", "compact-text"):
        # The canary of the health check asks, too, one row at a time and without padding.
        assert grown("duovec_triton_request_rows_sum", encoder=encoder) >= 2
        assert grown("duovec_triton_padding_tokens_total", encoder=encoder) > 10
    became = {outcome: grown("duovec_cache_texts_total", outcome=outcome) for outcome in ("hit", "miss", "shared")}
    assert became["miss"] == 2
    assert became["hit"] + became["shared"] == 2
    assert total(after, "duovec_serving") == 1
    assert total(after, "duovec_admission_pending_tokens") == 0
    assert total(after, "duovec_pool_max_connections") == 10


def test_no_label_has_a_value_that_a_caller_chose(stack: Stack, client: Client, used: None) -> None:
    """Whoever could make series without end would fill Prometheus."""
    client.access.create_principal("somebody-measured")
    with Client(stack.endpoint, api_key=client.access.create_api_key("somebody-measured").key) as other:
        list(other.list_codebases())
    client.access.delete_principal("somebody-measured")
    text = scrape(stack)
    assert "measured" not in text
    labels = {name for (_, has) in samples(stack) for name, _ in has}
    assert labels <= {
        *("code", "encoder", "generation", "implementation", "kind", "le", "major", "method", "minor", "operation"),
        *("outcome", "patchlevel", "searched", "space", "stage", "state", "version"),
    }


def test_promtool_has_nothing_against_the_metrics(stack: Stack, used: None) -> None:
    """Names, units and help texts are as Prometheus wants them."""
    checked = subprocess.run(
        [str(prometheus_tool("promtool")), "check", "metrics"], input=scrape(stack), capture_output=True, text=True
    )
    ours = [line for line in (checked.stdout + checked.stderr).splitlines() if line.startswith("duovec_")]
    assert (ours, checked.returncode) == ([], 0), checked.stderr


def test_every_metric_that_is_asked_for_is_served(stack: Stack, used: None) -> None:
    """A panel or an alert over a name that is gone would stay silent."""
    families = text_string_to_metric_families(scrape(stack))
    served = {family.name + suffix for family in families for suffix in _SUFFIXES.get(family.type, ("",))} | _ITS_OWN
    asked = {
        name
        for text in expressions()
        for name in re.findall(r"\b(?:duovec|process|python)_[a-z_]+|\bup\b", re.sub(r'"[^"]*"', "", text))
    }
    assert len(asked) > 35
    assert asked - served == set()


@pytest.fixture
async def prometheus(stack: Stack, tmp_path: Path) -> Any:
    """A real one with our configuration, but for the targets and how often it looks."""
    folder = ROOT / "deploy" / "prometheus"
    (tmp_path / "alerts.yml").write_text((folder / "alerts.yml").read_text())
    (tmp_path / "prometheus.yml").write_text((folder / "prometheus.yml").read_text().replace("15s", "2s"))
    (tmp_path / "targets.yml").write_text(yaml.safe_dump([{"targets": stack.metrics_endpoints}]))
    address = f"127.0.0.1:{free_port()}"
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(prometheus_tool("prometheus")),
            *(f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}"),
            f"--web.listen-address={address}",
            stdout=log,
            stderr=log,
        )
    yield address
    process.terminate()
    await process.wait()


def ask(address: str, expression: str) -> list[dict[str, Any]]:
    url = f"http://{address}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(url) as reply:
        answer = json.load(reply)
    assert answer["status"] == "success"
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


async def test_prometheus_evaluates_every_panel_and_every_alert(stack: Stack, used: None, prometheus: str) -> None:
    """Against what it scraped itself; no alert fires, and the panels have something to show."""

    def looked_twice() -> bool:
        try:
            found = ask(prometheus, 'count_over_time(duovec_serving{job="duovec"}[1m])')
        except OSError:
            return False
        return bool(found) and float(found[0]["value"][1]) >= 3

    while not await asyncio.to_thread(looked_twice):
        await asyncio.sleep(0.1)
    rules = {rule["expr"] for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]}

    def seen() -> tuple[set[str], list[str]]:
        """Alerts that are not silent, whatever their `for`, and panels that are empty."""
        empty = [text for text in expressions() if not ask(prometheus, text)]
        # No codebase here is large enough for an index, and so for the watch over its recall.
        bare = [text for text in empty if text not in rules and "recall" not in text and "code!=" not in text]
        return rules - set(empty), bare

    # A moment in which this machine was busy is much of the few seconds that Prometheus has seen; it passes.
    firing, bare = await asyncio.to_thread(until, seen, lambda found: found == (set(), []), timeout_s=120.0)
    assert firing == set(), "an alert fires at a healthy gateway"
    assert bare == []
