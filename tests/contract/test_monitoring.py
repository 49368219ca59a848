"""Prometheus's own tool takes our configuration and rules; dashboards and provisioning fit each other."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_tools import prometheus_tool

ROOT = Path(__file__).parents[2]
PROMETHEUS, GRAFANA = ROOT / "deploy" / "prometheus", ROOT / "deploy" / "grafana"
BOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))


def promtool(*arguments: str, folder: Path = PROMETHEUS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(prometheus_tool("promtool")), *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )


def test_prometheus_takes_the_configuration() -> None:
    """With the rules that it names, and both lists of targets."""
    checked = promtool("check", "config", "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "1 rule files found" in checked.stdout
    for targets in ("targets.yml", "targets.compose.yml"):
        assert [set(entry) for entry in yaml.safe_load((PROMETHEUS / targets).read_text())] == [{"targets"}]


def test_every_alert_fires_when_it_should_and_on_a_healthy_day_none() -> None:
    tested = promtool("test", "rules", "alerts.test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_tests_of_the_alerts_can_fail(tmp_path: Path) -> None:
    """An alert that fires on a healthy day, and one that has become deaf, are seen."""
    rules, tests = (PROMETHEUS / "alerts.yml").read_text(), (PROMETHEUS / "alerts.test.yml").read_text()
    (tmp_path / "alerts.test.yml").write_text(tests)
    for good, bad in (
        ("duovec_serving == 0", "duovec_serving == 1"),
        ("> 0.25\n        for: 5m", "> 99\n        for: 5m"),
    ):
        assert good in rules
        (tmp_path / "alerts.yml").write_text(rules.replace(good, bad))
        assert promtool("test", "rules", "alerts.test.yml", folder=tmp_path).returncode != 0


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    rules = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]
    tests = (PROMETHEUS / "alerts.test.yml").read_text()
    assert [rule["alert"] for rule in rules if f'"{rule["alert"]}"' not in tests] == []
    assert {tuple(sorted(rule["annotations"])) for rule in rules} == {("action", "summary")}
    assert {rule["labels"]["severity"] for rule in rules} == {"critical", "warning"}


def adapter_query() -> str:
    """What prometheus-adapter asks for one gateway, as it fills it in."""
    (rule,) = yaml.safe_load((ROOT / "deploy/helm/prometheus-adapter.yaml").read_text())["rules"]["custom"]
    filled = {"<<.LabelMatchers>>": 'namespace="n",pod="p"', "<<.GroupBy>>": "pod"}
    query: str = rule["metricsQuery"]
    for blank, value in filled.items():
        query = query.replace(blank, value)
    return query


@pytest.mark.parametrize("method", ["SearchService/Search", "POST /duovec.v1.SearchService/Search"])
def test_gateways_scale_by_the_searches_that_wait(method: str, tmp_path: Path) -> None:
    """Not by streams, which wait in line by design; and what never waits does not hide a search that does."""
    times = {
        method: (30, 60),
        # An hour of waiting a minute, by many streams at once.
        "IndexService/IndexChunks": (3600, 60),
        "EmbeddingService/Embed": (0, 60_000),
    }
    labels = [(f'{{namespace="n",pod="p",stage="queue",method="{name}"}}', values) for name, values in times.items()]
    series = [
        {"series": f"duovec_stage_duration_seconds_{kind}{label}", "values": f"0+{value}x10"}
        for label, values in labels
        for kind, value in zip(("sum", "count"), values, strict=True)
    ]
    sample = {"labels": '{pod="p"}', "value": 0.5}
    asked = {"expr": adapter_query(), "eval_time": "10m", "exp_samples": [sample]}
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [asked]}
    (tmp_path / "adapter.test.yml").write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    tested = promtool("test", "rules", "adapter.test.yml", folder=tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_gateways_scale_by_what_the_alert_is_about() -> None:
    """The same searches, whichever door they came by: a person who is called sees what the autoscaler saw."""
    rules = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]
    (alert,) = [rule["expr"] for rule in rules if rule["alert"] == "DuovecQueueing"]
    matchers = r'(duovec_\w+)\{(stage="[^"]*",method=~"[^"]*")'
    assert re.findall(matchers, adapter_query()) == re.findall(matchers, alert)
    assert len(re.findall(matchers, alert)) == 2


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_panels_of_processes_show_gateways_whatever_their_job_is_called(path: Path, tmp_path: Path) -> None:
    """As in Kubernetes, where the job is that of all pods; and no other programs, which say the same of theirs."""
    panels = json.loads(path.read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    assert [text for text in asked if "job=" in text] == []
    of_processes = [text for text in asked if "process_" in text]
    assert len(of_processes) == 3
    names = sorted({name for text in of_processes for name in re.findall(r"process_\w+", text)})
    series = [
        {"series": f'{name}{{job="kubernetes-pods",instance="{instance}"}}', "values": "0+1x10"}
        for name in names
        for instance in ("gateway", "other")
    ]
    series.append({"series": 'duovec_serving{job="kubernetes-pods",instance="gateway"}', "values": "1x10"})
    tests = [
        {
            "expr": f"count by (instance) ({text.replace('$instance', '.*').replace('$__rate_interval', '5m')})",
            "eval_time": "10m",
            "exp_samples": [{"labels": '{instance="gateway"}', "value": 1}],
        }
        for text in of_processes
    ]
    test = {"interval": "1m", "input_series": series, "promql_expr_test": tests}
    (tmp_path / "board.test.yml").write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    tested = promtool("test", "rules", "board.test.yml", folder=tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_complete(path: Path) -> None:
    """Every panel asks the provisioned data source, has a title and a place of its own on the grid."""
    board = json.loads(path.read_text())
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len(panels) > 10
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    assert all(panel["title"] and panel["targets"] for panel in panels)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        assert grid["x"] + grid["w"] <= 24
        taken |= cells
    variables = {variable["name"] for variable in board["templating"]["list"]} | {"__rate_interval"}
    used = {name for panel in panels for target in panel["targets"] for name in re.findall(r"\$(\w+)", target["expr"])}
    assert used <= variables
