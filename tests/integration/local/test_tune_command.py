"""`duovec tune` on the real Triton: what it measures, what it writes, and that `duovec up` takes it up."""

import email
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_pair import publish_small_pair

from gateway.local.claim import claim_data_dir
from gateway.repository import RunSettings, read_served_versions

DUOVEC = str(Path(sys.executable).with_name("duovec"))
ENCODERS = ("compact-code", "compact-text")
# One settings beside those in use, and as little work as can be.
LITTLE = ["--threads", "2", "--token-budget", "256", "--seconds", "0.1", "--source", str(Path(email.__file__).parent)]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A small pair, published."""
    publish_small_pair(tmp_path / "models")
    return tmp_path / "models"


def run_tune(repository: Path, data_dir: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """As a user runs it."""
    command = [DUOVEC, "tune", "--data-dir", str(data_dir), "--repository", str(repository), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=280)


def contents(repository: Path) -> dict[Path, bytes]:
    """Every file of the versions and every configuration."""
    paths = [*repository.glob("*/[0-9]*/*"), *repository.glob("*/config.pbtxt")]
    return {path: path.read_bytes() for path in paths if path.is_file()}


def test_it_measures_and_on_request_writes_nothing(repository: Path, data_dir: Path) -> None:
    """Runtimes and precisions of the same graph are measured beside the served one; nothing is left behind."""
    before = contents(repository)
    done = run_tune(repository, data_dir, *LITTLE, "--dry-run", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told: dict[str, Any] = json.loads(done.stdout)
    assert contents(repository) == before
    assert [path.name for path in data_dir.iterdir()] == ["up.lock"]
    assert told["written"] is False
    in_use = told["before"]
    tried = [row["settings"] for row in told["settings"]]
    assert in_use in tried
    assert {"instances": 1, "num_threads": 2, "token_budget": 512} in tried
    assert any(one["token_budget"] == 256 for one in tried)
    assert told["chosen"] in tried
    for row in told["settings"]:
        assert row["problem"] == "" and row["sound"]
        assert row["moved"] <= row["may_move"] == 1e-4
        assert row["idle_ms"] > 0 and row["chunks_per_s"] > 0
        assert row["interactive_p50_ms"] <= row["interactive_ms"]
    served, *others = [(row["runtime"], row["precision"]) for row in told["runtimes"]]
    known = {("openvino", "bf16"), ("openvino", "fp32"), ("onnxruntime", "fp32")}
    assert {served, *others} == known and served == ("openvino", "fp32")
    assert [row["is_proven"] for row in told["runtimes"]] == [True, False, False]
    assert all(row["chunks_per_s"] > 0 for row in told["runtimes"] if row["precision"] == "fp32")


def test_what_it_writes_is_what_up_runs_by(repository: Path, data_dir: Path) -> None:
    """The chosen settings stand in both configurations, no version changed, and `duovec up` says so."""
    versions = {path: content for path, content in contents(repository).items() if path.name != "config.pbtxt"}
    done = run_tune(repository, data_dir, *LITTLE, "--no-runtimes", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["written"] is True and told["runtimes"] == []
    cores = len(os.sched_getaffinity(0))
    for encoder in ENCODERS:
        found = read_served_versions(repository, encoder).settings
        assert found == RunSettings(**told["chosen"], tuned_for_cores=cores)
    after = contents(repository)
    assert {path: after[path] for path in versions} == versions
    up = [
        DUOVEC,
        "up",
        "--data-dir",
        str(data_dir),
        "--repository",
        str(repository),
        "--listen",
        "127.0.0.1:0",
        "--json",
    ]
    with subprocess.Popen(up, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        events = map(json.loads, process.stdout)
        models = next(one["detail"] for one in events if one["part"] == "models" and one["state"] == "ready")
        process.terminate()
        process.communicate(timeout=60)
    chosen = told["chosen"]
    assert f"threads {chosen['num_threads']}, token budget {chosen['token_budget']}, tuned" in models


def test_it_refuses_while_the_service_runs(repository: Path, data_dir: Path) -> None:
    """Its work would be measured along."""
    with claim_data_dir(data_dir):
        done = run_tune(repository, data_dir)
    assert done.returncode == 1
    assert (
        f"error: duovec is already running on {data_dir}, as process {os.getpid()}: use that one, stop it"
        in done.stderr
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "/no/such/folder"], "error: --source /no/such/folder does not exist: name a folder with source"),
        (["--source", __file__], "chunks of code, and measuring takes at least 64: name a larger folder with --source"),
    ],
)
def test_too_little_code_is_named(repository: Path, data_dir: Path, options: list[str], message: str) -> None:
    """One line, before anything starts."""
    done = run_tune(repository, data_dir, *options)
    assert done.returncode == 1
    assert message in done.stderr
