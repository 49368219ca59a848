"""A disk that is full where a run writes: one line and exit code 1, and the same command goes on when there is room."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from mined_data import write_data
from safetensors.numpy import load_file
from small_recipe import write_base, write_recipe
from transformers import TrainerCallback
from typer.testing import CliRunner, Result

from training.cli.main import app
from training.progress import Board, read_metrics


@contextmanager
def _files_end_at(size_bytes: int) -> Iterator[None]:
    """As on a disk that fills up: what would make a file longer is refused."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("mined"), limit=120)


# What makes another kind of result of the small encoder's recipe and spec, and the file that the disk refuses.
_WITHOUT_TASKS = (
    ('tasks = ["query", "passage"]\n', "tasks = []\n"),
    ('query = { prompt = "", task = "query" }', 'query = { prompt = "" }'),
    ('passage = { prompt = "", task = "passage" }', 'passage = { prompt = "" }'),
)


@dataclass(frozen=True)
class _Kind:
    recipe: str = ""
    spec: tuple[tuple[str, str], ...] = ()
    refused: str = "adapters.safetensors"


_KINDS = {
    "adapters": _Kind(),
    "full": _Kind('method = "full"\n', _WITHOUT_TASKS, "model.safetensors"),
}


def _command(kind: _Kind, folder: Path, data: Path) -> list[str]:
    recipe, base = write_recipe(folder, max_steps=4), write_base(folder / "base")
    (base / "adapters.safetensors").unlink()
    recipe.write_text(recipe.read_text().replace("[data]", f"{kind.recipe}[data]"))
    spec = (folder / "small.toml").read_text()
    for old, new in kind.spec:
        assert spec.count(old) == 1, old
        spec = spec.replace(old, new)
    (folder / "small.toml").write_text(spec)
    words = ["run", str(recipe), "--data", str(data), "--base", str(base), "--output", str(folder / "run")]
    return [*words, "--device", "cpu"]


def _require_told(refused: Result, path: Path) -> None:
    """One line, of what was written and what to do."""
    assert refused.exit_code == 1, refused.output
    told = refused.stderr[refused.stderr.index("error: ") :]  # it stands behind the progress bar
    assert told.startswith(f"error: cannot write {path}")
    assert told.endswith("; free some space and run the command again\n")
    assert told.count("\n") == 1


@pytest.mark.parametrize("kind", _KINDS.values(), ids=_KINDS)
def test_a_result_that_does_not_fit_is_written_later(kind: _Kind, data: Path, tmp_path: Path) -> None:
    """Nothing of it stays behind, and the last checkpoint gives it, to the last bit, without another step."""
    command = _command(kind, tmp_path, data)
    run = tmp_path / "run"
    finished = CliRunner().invoke(app, command)
    assert finished.exit_code == 0, finished.output
    (run / "result").rename(tmp_path / "whole")
    with _files_end_at(10_000):
        _require_told(CliRunner().invoke(app, command), run / ".result.new")
    assert sorted(path.name for path in run.iterdir() if "result" in path.name) == []
    assert CliRunner().invoke(app, command).exit_code == 0
    ours, theirs = load_file(run / "result" / kind.refused), load_file(tmp_path / "whole" / kind.refused)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("begun", [False, True], ids=["at the first event", "after a step"])
def test_events_that_do_not_fit_stop_the_run_with_one_line(
    begun: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorBoard's file is on a device that is full, and no thread is left that tells the same in its own way."""
    command = _command(_KINDS["adapters"], tmp_path, data)
    with monkeypatch.context() as patch:
        patch.setattr(Board, "__init__", lambda self, folder: setattr(self, "_path", Path("/dev/full")))
        if begun:
            patch.setattr(Board, "on_train_begin", TrainerCallback.on_train_begin)
        _require_told(CliRunner().invoke(app, command), Path("/dev"))
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == int(begun)
    assert CliRunner().invoke(app, command).exit_code == 0
