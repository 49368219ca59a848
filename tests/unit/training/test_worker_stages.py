"""A run's folder: whose it is, what it says of its result."""

import errno
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from export.disk import writing
from export.errors import ExportError
from training.errors import TrainingError
from training.worker import stages
from training.worker.child import Child
from training.worker.queue import Progress, QueuedRun
from training.worker.stages import RunFolder, Stage, WorkerSettings, run_folders
from training.worker.worker import MOST_RETRIES, Worker, _Unfinished

RUN = QueuedRun(
    run_id=7,
    recipe='encoder = "compact-text"\n[optimizer]\nlearning_rate = 0.1\n',
    encoder="compact-text",
    codebase_ids=(),
    seed=None,
    device="cpu",
    precision=None,
    publish=False,
    attempt=1,
    cancel_requested=False,
    lost_count=0,
    retry_count=0,
    create_time=datetime(2026, 11, 22, tzinfo=UTC),
    database="1/2",
)


def folder_of(run: QueuedRun, work_dir: Path) -> RunFolder:
    return RunFolder(WorkerSettings("", work_dir), run)


def mined_folder(work_dir: Path) -> RunFolder:
    """The folder of RUN with data of a codebase that is called `deleted`."""
    folder = folder_of(RUN, work_dir)
    folder.prepare()
    folder.data.mkdir()
    (folder.data / "card.json").write_text('{"sources": [{"name": "deleted"}]}', encoding="utf-8")
    return folder


def worker_on(queue: "_Queue", work_dir: Path) -> Worker:
    worker = Worker(WorkerSettings("", work_dir), name="one", lease_s=60, poll_s=1)
    worker._queue = queue  # type: ignore[assignment]
    return worker


@pytest.mark.parametrize(
    "change",
    [
        {"database": "1/3"},
        {"create_time": datetime(2026, 11, 23, tzinfo=UTC)},
        {"recipe": "seed = 2"},
        {"codebase_ids": ("mine",)},
        {"device": "cuda"},
        {"seed": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_run_of_the_same_number_has_another_folder(change: dict[str, object], tmp_path: Path) -> None:
    """A database that was restored counts again: what an old run left is not evaluated as the new one's."""
    assert folder_of(replace(RUN, **change), tmp_path).path != folder_of(RUN, tmp_path).path  # type: ignore[arg-type]


def test_the_same_run_goes_on_in_its_folder(tmp_path: Path) -> None:
    """Whatever its attempt."""
    later = replace(RUN, attempt=5, lost_count=3, retry_count=1, cancel_requested=True)
    assert folder_of(later, tmp_path).path == folder_of(RUN, tmp_path).path


def test_folders_are_found_by_their_database(tmp_path: Path) -> None:
    """Old ones are deleted by what this database says of its runs, so that no others may be among them."""
    for run in (RUN, replace(RUN, database="1/3", run_id=8)):
        folder_of(run, tmp_path).prepare()
    (tmp_path / "run-9-by-hand").mkdir()
    assert run_folders(tmp_path, "1/2") == {7: folder_of(RUN, tmp_path).path}


def test_the_recipe_s_digest_is_that_of_the_result(tmp_path: Path) -> None:
    """What it was trained by, not what lies beside it."""
    folder = folder_of(RUN, tmp_path)
    folder.prepare()
    assert folder.lineage()["recipe_sha256"] == hashlib.sha256(RUN.recipe.encode()).hexdigest()
    folder.result.mkdir(parents=True)
    (folder.result / "lineage.json").write_text(json.dumps({"recipe_sha256": "abc"}), encoding="utf-8")
    assert folder.lineage()["recipe_sha256"] == "abc"


def test_who_looks_after_a_run_loads_no_torch() -> None:
    """A worker waits for weeks beside the training that needs the memory, and what is taken back is not measured."""
    code = "import sys, training.worker.worker, training.publication.publish; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


async def test_code_that_was_deleted_is_not_trained_on_where_its_data_set_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends, and not by its recipe; what is left says to the next attempt that it is to be deleted first."""
    folder = mined_folder(tmp_path)
    folder.result.mkdir(parents=True)
    remove = shutil.rmtree

    def refuse(path: Path, ignore_errors: bool = False) -> None:
        if path != folder.data:
            remove(path)
        elif not ignore_errors:
            raise PermissionError(errno.EACCES, "Permission denied", str(path / "train.parquet"))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    outcome = await worker_on(_Queue(gone=["deleted"]), tmp_path)._outcome(RUN, folder)
    assert outcome.state == "FAILED" and "train.parquet" in str(outcome.error)
    assert not folder.output.exists()
    assert folder.cited_codebases() == ["deleted"]
    monkeypatch.undo()
    folder.delete()
    folder.delete()
    assert not folder.path.exists()


@pytest.mark.parametrize("content", ['{"sources": [{"na', "[]", '{"sources": [{}]}', '{"sources": 3}'])
async def test_a_damaged_card_ends_the_run_and_not_the_worker(content: str, tmp_path: Path) -> None:
    """A power cut on another machine, or somebody's editor: the next run is none the worse for it."""
    folder = folder_of(RUN, tmp_path)
    folder.prepare()
    folder.data.mkdir()
    (folder.data / "card.json").write_text(content, encoding="utf-8")
    outcome = await worker_on(_Queue(), tmp_path)._outcome(RUN, folder)
    assert (outcome.state, outcome.error_reason) == ("FAILED", "RUN_FOLDER_DAMAGED")
    assert "card.json is damaged: " in str(outcome.error) and f"delete {folder.data}" in str(outcome.error)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recipe": "speed = 9"}, "unknown key speed"),
        ({"recipe": "seed = "}, "not valid TOML"),
        ({"recipe": "seed = ", "seed": 3}, "not valid TOML"),
        ({"recipe": 'encoder = "nobody"\n[optimizer]\nlearning_rate = 0.1\n'}, "nobody"),
    ],
)
async def test_a_recipe_that_does_not_do_ends_the_run(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Under a reason that tells who sent it that another one may do."""
    run = replace(RUN, **change)
    outcome = await worker_on(_Queue(), tmp_path)._outcome(run, folder_of(run, tmp_path))
    assert (outcome.state, outcome.error_reason) == ("FAILED", "RECIPE_INVALID")
    assert words in str(outcome.error)


async def test_what_fails_the_worker_is_no_fault_of_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of runs is no folder, or its database refuses."""
    (tmp_path / "file").touch()
    below = tmp_path / "file"
    outcome = await worker_on(_Queue(), below)._outcome(RUN, folder_of(RUN, below))
    assert (outcome.state, outcome.error_reason) == ("FAILED", "WORKER_FAILED")
    assert "Not a directory" in str(outcome.error)

    async def refuse(self: _Queue, codebase_ids: Sequence[str]) -> list[str]:
        raise TrainingError("the database refuses: permission denied")

    monkeypatch.setattr(_Queue, "missing_codebases", refuse)
    outcome = await worker_on(_Queue(), tmp_path)._outcome(RUN, folder_of(RUN, tmp_path))
    assert (outcome.state, outcome.error_reason) == ("FAILED", "WORKER_FAILED")


@pytest.mark.parametrize("where", ["worker", "stage"])
async def test_a_run_whose_disk_is_full_is_tried_again(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its training goes on from the last checkpoint; one that was ended would begin anew. A hundred times, not more."""
    full = OSError(errno.ENOSPC, "No space left on device", str(tmp_path))
    if where == "worker":
        monkeypatch.setattr(stages, "replace_text", Mock(side_effect=full))
    else:
        with pytest.raises(ExportError) as told, writing(tmp_path):
            raise full
        command = (sys.executable, "-c", f"import sys; sys.exit('error: ' + {str(told.value)!r})")
        monkeypatch.setattr(RunFolder, "stages", lambda self: [Stage("train", command, done=False)])
    worker, folder = worker_on(_Queue(), tmp_path), folder_of(RUN, tmp_path)
    worker._held_until_s = time.monotonic() + 60
    with pytest.raises(_Unfinished, match="No space left on device"):
        await worker._outcome(replace(RUN, retry_count=MOST_RETRIES - 1), folder)
    outcome = await worker._outcome(replace(RUN, retry_count=MOST_RETRIES), folder)
    assert outcome.state == "FAILED" and "No space left on device" in str(outcome.error)
    assert outcome.error_reason == {"worker": "WORKER_FAILED", "stage": "TRAIN_FAILED"}[where]


async def test_what_cannot_be_taken_back_for_want_of_space_is_taken_back_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage cannot write its log: the worker outlives it, and what is published is not forgotten."""
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(Worker, "_take_back", AsyncMock(side_effect=full))
    worker, cancelled = worker_on(_Queue(), tmp_path), replace(RUN, cancel_requested=True)
    with pytest.raises(_Unfinished, match="No space left on device"):
        await worker._outcome(cancelled, folder_of(RUN, tmp_path))
    outcome = await worker._outcome(replace(cancelled, retry_count=MOST_RETRIES), folder_of(RUN, tmp_path))
    assert (outcome.state, outcome.error_reason) == ("FAILED", "NOT_TAKEN_BACK")


class _Queue:
    """A database in which nothing was published, and nothing deleted but what it is told."""

    def __init__(self, gone: Sequence[str] = ()) -> None:
        self._gone = gone

    async def missing_codebases(self, codebase_ids: Sequence[str]) -> list[str]:
        return [one for one in codebase_ids if one in self._gone]

    async def keep(self, run: QueuedRun, *_: object, timeout_s: float) -> bool:
        return False

    async def has_open_publication(self, run: QueuedRun) -> bool:
        return False


@pytest.mark.parametrize("content", ['{"recipe_sha', "[]", "{}"])
def test_what_cannot_be_read_of_a_lineage_is_said_beside_what_can(content: str, tmp_path: Path) -> None:
    """What is known of a run is told when it ends, whatever its files look like."""
    folder = mined_folder(tmp_path)
    folder.result.mkdir(parents=True)
    (folder.result / "lineage.json").write_text(content, encoding="utf-8")
    found = folder.lineage()
    assert found.keys() == {"code", "unknown"}
    told, also = found["unknown"].split("; data_sha256: ")
    assert told.startswith(f"recipe_sha256: RUN_FOLDER_DAMAGED: {folder.result / 'lineage.json'} is damaged: ")
    assert also.startswith(f"{folder.data / 'train.parquet'} is missing")
    shutil.rmtree(folder.result)
    assert folder.lineage()["recipe_sha256"] == hashlib.sha256(RUN.recipe.encode()).hexdigest()
    shutil.rmtree(folder.data)
    assert folder.lineage().keys() == {"code", "recipe_sha256"}


@pytest.mark.parametrize("content", ['{"step": 3, "lo\n', "[]\n", '"three"\n', '{"loss": 1.0}\n', "", "{"])
def test_progress_is_not_told_by_a_damaged_line(content: str, tmp_path: Path) -> None:
    """The training says by itself that it cannot go on; the row keeps what it has."""
    folder = folder_of(RUN, tmp_path)
    folder.prepare()
    folder.output.mkdir()
    (folder.output / "metrics.jsonl").write_text(content, encoding="utf-8")
    assert folder.progress("train") == Progress(stage="train")


@pytest.mark.parametrize(
    ("printed", "error"),
    [
        ("one\nerror: the disk is full\n\n", "the disk is full"),
        ("", "it said nothing"),
        ("error: a\0b\n\0\0", "ab"),
        ("x" * 10_000, "x" * 4000),
    ],
)
async def test_what_a_stage_said_last_fits_a_row(printed: str, error: str, tmp_path: Path) -> None:
    """A run that cannot be recorded would be begun again and again."""
    command = [sys.executable, "-c", f"import sys; sys.stderr.write({printed!r})"]
    child = await Child.start(command, {}, tmp_path / "stage.log")
    assert await child.wait() == 0
    assert child.last_error == error
