"""Runs as a user starts them: killed and taken up, by two processes, stopped by a bad number, refused."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mined_data import write_data
from safetensors.numpy import load_file, save_file
from small_recipe import write_base, write_recipe
from transformers import AutoTokenizer
from typer.testing import CliRunner

from export.build import BuildRequest, build
from export.gate.settings import GateSettings
from export.proof import prove_candidate
from export.repository import EncoderFolder
from export.serving import Precision, Runtime, Serving
from export.source import open_checkpoint
from export.spec import load_spec
from training.cli.main import app
from training.dataset import load_rows
from training.errors import TrainingError
from training.run import RunRequest, train

_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("mined"), limit=120)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


def _command(recipe: Path, data: Path, base: Path, output: Path, *, processes: int = 1) -> list[str]:
    start = [sys.executable, "-m", "training"]
    if processes > 1:
        rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
        start = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", *rendezvous]
        start += ["-m", "training"]
    return [*start, "run", str(recipe), "--data", str(data), "--base", str(base), "--output", str(output)]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=_ENVIRONMENT, capture_output=True, text=True, check=False)


def _curve(output: Path) -> list[tuple[int, float, float, float]]:
    lines = (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return [(row["step"], row["loss"], row["grad_norm"], row["learning_rate"]) for row in rows]


def _weights(output: Path) -> dict[str, np.ndarray]:
    return load_file(output / "result" / "adapters.safetensors")


@pytest.fixture(scope="module")
def whole(data: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe with dropout and a second epoch, and its uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    recipe = write_recipe(folder, learning_rate=5e-3, max_steps=40, epochs=4)
    finished = _run(_command(recipe, data, base, folder / "run"))
    assert finished.returncode == 0, finished.stderr
    return recipe, folder / "run"


def test_a_killed_run_goes_on_as_if_it_had_not_been(
    whole: tuple[Path, Path], data: Path, base: Path, tmp_path: Path
) -> None:
    """SIGKILL between two checkpoints: the same losses, norms and rates to the last bit, and the same weights."""
    recipe, uninterrupted = whole
    command = _command(recipe, data, base, tmp_path / "run")
    child = subprocess.Popen(command, env=_ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while child.poll() is None and not (metrics.is_file() and len(metrics.read_text().splitlines()) >= 6):
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert 6 <= len(_curve(tmp_path / "run")) < 40
    resumed = _run(command)
    assert resumed.returncode == 0, resumed.stderr
    assert _curve(tmp_path / "run") == _curve(uninterrupted)
    ours, theirs = _weights(tmp_path / "run"), _weights(uninterrupted)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_a_disk_that_fills_up_in_mid_save_costs_no_checkpoint(
    whole: tuple[Path, Path], data: Path, base: Path, tmp_path: Path
) -> None:
    """From one checkpoint to the next, files may not have the optimizer's size: one line, and the last one is whole."""
    recipe, uninterrupted = whole
    command = _command(recipe, data, base, tmp_path / "run")
    child = subprocess.Popen(command, env=_ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    checkpoints = tmp_path / "run" / "checkpoints"
    size = (uninterrupted / "checkpoints" / "checkpoint-40" / "optimizer.pt").stat().st_size
    while child.poll() is None and not list(checkpoints.glob("checkpoint-*")):
        time.sleep(0.01)
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (size // 2, size // 2))
    errors = child.communicate()[1]
    assert child.returncode == 1, errors
    told = errors[errors.index("error: ") :].splitlines()[0]  # it stands behind the progress bar
    assert told.startswith(f"error: cannot write {checkpoints / '.staging'}")
    assert told.endswith("; free some space and run the command again")
    assert "Traceback" not in errors
    kept = [path for path in checkpoints.iterdir() if path.name != ".staging"]
    assert kept and all((path / "optimizer.pt").stat().st_size == size for path in kept)
    assert not (tmp_path / "run" / "result").exists()
    resumed = _run(command)
    assert resumed.returncode == 0, resumed.stderr
    assert _curve(tmp_path / "run") == _curve(uninterrupted)
    ours, theirs = _weights(tmp_path / "run"), _weights(uninterrupted)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_words_weigh_by_how_few_passages_hold_them(whole: tuple[Path, Path], data: Path, base: Path) -> None:
    """Counted anew over the rows' passages with transformers' tokenizer; special tokens weigh nothing."""
    _, output = whole
    passages = {row.positive for row in load_rows(data, "train")}
    tokenizer = AutoTokenizer.from_pretrained(base)
    holding = Counter(
        token for text in passages for token in set(tokenizer(text, truncation=True, max_length=128).input_ids)
    )
    weights = _weights(output)["words.weight"]
    for token, count in holding.items():
        expected = np.log(1 + (len(passages) - count + 0.5) / (count + 0.5))
        assert weights[token] == pytest.approx(0 if token in tokenizer.all_special_ids else expected, rel=1e-3)
    unseen = weights[[token for token in range(len(weights)) if token not in holding]]
    assert unseen.max() == pytest.approx(np.log(2 * len(passages) + 2), rel=1e-3)


def test_the_loss_falls_and_everything_is_logged(whole: tuple[Path, Path]) -> None:
    """Learning rate up and down, every step logged, two checkpoints kept, and TensorBoard has its events."""
    _, output = whole
    curve = _curve(output)
    assert [step for step, *_ in curve] == list(range(1, 41))
    losses, rates = [loss for _, loss, *_ in curve], [rate for *_, rate in curve]
    assert sum(losses[-10:]) < 0.95 * sum(losses[:10])
    assert rates.index(max(rates)) in (4, 5) and rates[-1] < 0.1 * max(rates)
    assert sorted(path.name for path in (output / "checkpoints").iterdir()) == ["checkpoint-36", "checkpoint-40"]
    assert list((output / "tensorboard").glob("events.out.tfevents.*"))
    lines = (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(line)["tokens_per_s"] > 0 for line in lines)


def test_the_result_passes_the_gate_as_it_is(whole: tuple[Path, Path], tmp_path: Path) -> None:
    """Recipe to candidate in two commands: what was trained is what the gate compares with transformers."""
    recipe, output = whole
    spec = load_spec(recipe.parent / "small.toml")
    checkpoint = open_checkpoint(spec, output / "result")
    request = BuildRequest(spec, Serving(Runtime.ONNXRUNTIME, Precision.FP32, 1), 18)
    folder = EncoderFolder(tmp_path, spec.name)
    with folder.building():
        build(folder, request, checkpoint)
        _, report = prove_candidate(folder, request, checkpoint, GateSettings(longest_bucket=16, pairs=20))
    assert report.passed
    assert (output / "result" / "README.md").is_file() and (output / "result" / "lineage.json").is_file()


def test_two_processes_learn_what_one_does(data: Path, base: Path, tmp_path: Path) -> None:
    """Negatives are gathered over processes and gradients averaged: only the order of additions differs."""
    recipe = write_recipe(tmp_path, max_steps=6, base_dropout=False)
    train(RunRequest(recipe, data, tmp_path / "one", base, "cpu"))
    both = _run(_command(recipe, data, base, tmp_path / "two", processes=2))
    assert both.returncode == 0, both.stderr
    ours, theirs = np.array(_curve(tmp_path / "two")), np.array(_curve(tmp_path / "one"))
    np.testing.assert_allclose(ours[:, 1:], theirs[:, 1:], rtol=2e-3)
    for name, weight in _weights(tmp_path / "one").items():
        np.testing.assert_allclose(_weights(tmp_path / "two")[name], weight, atol=2e-3)


def test_a_triplet_loss_near_nothing_is_no_divergence(data: Path, base: Path, tmp_path: Path) -> None:
    """What is beyond the margin costs nothing: a batch with one hard negative is many times the mean, and no harm."""
    triplet = '[loss]\nname = "triplet"\nmargin = 0.3\n[data]\nhard_negatives = 1'
    for name, start, changes in (
        ("first", base, {"learning_rate": 5e-3, "max_steps": 14}),
        ("second", tmp_path / "first" / "run" / "result", {"learning_rate": 1e-12, "max_steps": 40, "epochs": 3}),
    ):
        recipe = write_recipe(tmp_path / name, extra="divergence = 1.01", **changes)
        recipe.write_text(recipe.read_text().replace("[data]", triplet))
        train(RunRequest(recipe, data, tmp_path / name / "run", start, "cpu"))
    losses = [loss for _, loss, *_ in _curve(tmp_path / "second" / "run")]
    assert 1.01 * np.mean(losses[:20]) < max(losses[20:]) < 0.3


def test_a_number_that_is_none_stops_the_run(data: Path, base: Path, tmp_path: Path) -> None:
    """A weight that overflows gives NaN at the first step: no step is made of it, and no checkpoint."""
    broken = tmp_path / "base"
    shutil.copytree(base, broken)
    weights = load_file(broken / "model.safetensors")
    weights["encoder.layer.1.output.dense.weight"][:] = np.float32(3e38)
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingError, match=r"step 1: the loss is nan; .*\.py:\d+-\d+"):
        train(RunRequest(write_recipe(tmp_path), data, tmp_path / "run", broken, "cpu"))
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_another_recipe_does_not_go_on_with_a_run(
    whole: tuple[Path, Path], data: Path, base: Path, tmp_path: Path
) -> None:
    """Weights of two recipes in one run would have no lineage; a finished run is not overwritten either."""
    recipe, output = whole
    with pytest.raises(TrainingError, match="holds a finished run"):
        train(RunRequest(recipe, data, output, base, "cpu"))
    unfinished = tmp_path / "run"
    unfinished.mkdir()
    (unfinished / "run.json").write_text((output / "run.json").read_text())
    with pytest.raises(TrainingError, match="another recipe_sha256"):
        train(RunRequest(write_recipe(tmp_path / "other", batch=16), data, unfinished, base, "cpu"))


@pytest.mark.parametrize(
    ("precision", "device", "told"),
    [("fp16", "cpu", "optimizer.precision is fp16, which needs a GPU"), ("fp32", "cuda:99", "device is cuda:99")],
)
def test_what_this_machine_lacks_is_refused_before_the_work(
    precision: str, device: str, told: str, data: Path, base: Path, tmp_path: Path
) -> None:
    """fp16 on a CPU would be fp32 under another name; a GPU that is not there would be another device."""
    recipe = write_recipe(tmp_path, precision=precision)
    with pytest.raises(TrainingError, match=told):
        train(RunRequest(recipe, data, tmp_path / "run", base, device))
    assert not (tmp_path / "run").exists()


def test_styles_that_are_not_there_are_told(data: Path, base: Path, tmp_path: Path) -> None:
    """Before the work, on stderr, and in the lineage: the recipe meant other shares."""
    recipe = write_recipe(tmp_path, max_steps=1)
    shares = "[data]\nshares = { docstring = 1, comment = 1, commit = 1 }"
    recipe.write_text(recipe.read_text().replace("[data]", shares))
    arguments = ["--data", str(data), "--base", str(base), "--output", str(tmp_path / "run"), "--device", "cpu"]
    run = CliRunner().invoke(app, ["run", str(recipe), *arguments])
    assert run.exit_code == 0, run.stderr
    assert f"note: {data} has no query of style commit: their shares go to the other styles" in run.stderr
    assert json.loads((tmp_path / "run" / "result" / "lineage.json").read_text())["absent_styles"] == ["commit"]


def test_too_few_triplets_train_nothing(base: Path, tmp_path: Path) -> None:
    """Fewer than 100 real triplets are an error with a name of its own, and exit code 1."""
    data = write_data(tmp_path / "mined", limit=99)
    arguments = ["--data", str(data), "--base", str(base), "--output", str(tmp_path / "run")]
    refused = CliRunner().invoke(app, ["run", str(write_recipe(tmp_path)), *arguments])
    assert refused.exit_code == 1
    assert "INSUFFICIENT_TRAINING_DATA" in refused.stderr and "99 triplets" in refused.stderr
    assert not (tmp_path / "run").exists()
