"""A run's folder that is in use, or not as the run left it: one line that names the file and what to do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mined_data import write_data
from safetensors.numpy import load_file
from small_recipe import write_base, write_recipe

from training.errors import TrainingError
from training.run import RunRequest, train
from training.run_folder import held


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunRequest:
    """A run of 12 steps with checkpoints at 8 and 12, whose base has no adapters of its own."""
    root = tmp_path_factory.mktemp("damaged")
    base = write_base(root / "base")
    (base / "adapters.safetensors").unlink()
    request = RunRequest(write_recipe(root), write_data(root / "mined", limit=120), root / "run", base, "cpu")
    train(request)
    return request


@pytest.fixture
def unfinished(finished: RunRequest, tmp_path: Path) -> RunRequest:
    """The same, killed just before it wrote its result."""
    shutil.copytree(finished.output, tmp_path / "run", ignore=shutil.ignore_patterns("result"))
    return RunRequest(finished.recipe, finished.data, tmp_path / "run", finished.base, "cpu")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("trained.safetensors", _cut, "is damaged: "),
        ("optimizer.pt", _cut, "is damaged: File is not a zip file"),
        ("optimizer.pt", _flip, "is damaged: .* has another checksum"),
        ("scheduler.pt", Path.unlink, "is missing"),
        ("rng_state.pth", _empty, "is damaged: File is not a zip file"),
        ("trainer_state.json", _cut, "is damaged: "),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_serves(
    name: str, damage: Callable[[Path], None], told: str, unfinished: RunRequest, finished: RunRequest
) -> None:
    """What the message says to do is done, and the run ends as if nothing had been."""
    last = unfinished.output / "checkpoints" / "checkpoint-12"
    damage(last / name)
    with pytest.raises(
        TrainingError, match=rf"checkpoint-12/{name} {told}.*; delete .*/checkpoint-12: the run goes on"
    ):
        train(unfinished)
    shutil.rmtree(last)
    ours = load_file(train(unfinished) / "adapters.safetensors")
    theirs = load_file(finished.output / "result" / "adapters.safetensors")
    assert all(np.array_equal(ours[one], theirs[one]) for one in theirs)


def test_a_damaged_line_of_the_metrics_is_named(unfinished: RunRequest) -> None:
    """The curve would have a hole that nobody sees."""
    path = unfinished.output / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], '{"step": 3, "lo\n', *lines[3:]]))
    with pytest.raises(TrainingError, match=r"metrics\.jsonl: line 3 is damaged; delete it"):
        train(unfinished)


@pytest.mark.parametrize("content", ['{"encoder": "sma', "[]", "\xff"])
def test_a_damaged_run_json_is_named(content: str, unfinished: RunRequest) -> None:
    """What the run was cannot be known: its checkpoints may be of another recipe."""
    (unfinished.output / "run.json").write_text(content, encoding="latin-1")
    with pytest.raises(TrainingError, match=r"run\.json is damaged: .*; choose another --output, or delete"):
        train(unfinished)


def test_a_folder_that_is_trained_in_is_refused(unfinished: RunRequest) -> None:
    """Two processes would write each other's checkpoints; what is there stays untouched."""
    staging = unfinished.output / "checkpoints" / ".staging"
    staging.mkdir()
    with held(unfinished.output), pytest.raises(TrainingError, match="another process trains in .*; wait for its end"):
        train(unfinished)
    assert staging.is_dir()
    assert train(unfinished).is_dir()


def test_a_run_that_lacks_its_result_alone_makes_no_more_steps(
    unfinished: RunRequest, finished: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its result was written, and once more while it was: the same curve, checkpoints and weights."""

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    def kept(output: Path) -> tuple[str, list[str]]:
        return (output / "metrics.jsonl").read_text(), sorted(path.name for path in (output / "checkpoints").iterdir())

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("training.result._write_card", kill)
        train(unfinished)
    assert not [path for path in unfinished.output.iterdir() if "result" in path.name]
    assert kept(unfinished.output) == kept(finished.output)
    ours, theirs = train(unfinished), finished.output / "result"
    assert kept(unfinished.output) == kept(finished.output)
    assert json.loads((ours / "lineage.json").read_text())["steps"] == 12
    assert (ours / "adapters.safetensors").read_bytes() == (theirs / "adapters.safetensors").read_bytes()


def test_a_checkpoint_that_does_not_say_its_step_is_named(unfinished: RunRequest) -> None:
    """Without it nobody knows whether the run has ended."""
    path = unfinished.output / "checkpoints" / "checkpoint-12" / "trainer_state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "global_step": "twelve"}))
    with pytest.raises(
        TrainingError, match=r"trainer_state\.json is damaged: its global_step is 'twelve'; delete .*-12"
    ):
        train(unfinished)


def test_a_checkpoint_of_other_shapes_is_refused(unfinished: RunRequest, tmp_path: Path) -> None:
    """The recipe is the same file; the spec that it names has another rank by now."""
    shutil.copyfile(unfinished.recipe, tmp_path / "recipe.toml")
    spec = (unfinished.recipe.parent / "small.toml").read_text()
    (tmp_path / "small.toml").write_text(spec.replace("rank = 4", "rank = 8"))
    request = RunRequest(tmp_path / "recipe.toml", unfinished.data, unfinished.output, unfinished.base, "cpu")
    with pytest.raises(TrainingError, match=r"trained\.safetensors: .* is \(4, 64\), the model has \(8, 64\)"):
        train(request)
