"""A run's folder: one process at a time, one recipe and data set, and the checkpoint to go on from."""

import fcntl
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.trainer_utils import get_last_checkpoint

from export.disk import replace_text, writing
from training.errors import TrainingError
from training.result import RESULT_FOLDER
from training.trainer import STAGING, TRAINED_FILE

CHECKPOINTS_FOLDER = "checkpoints"
RUN_FILE = "run.json"
LOCK_FILE = "run.lock"
STATE_FILE = "trainer_state.json"
_STATE_FILES = ("optimizer.pt", "scheduler.pt", STATE_FILE)  # transformers goes on without one that is missing


@contextmanager
def held(output: Path) -> Iterator[None]:
    """Hold a run's folder, which is made where it is missing; a crash releases it.

    Raises:
        TrainingError: Another process trains in it.
        ExportError: The disk refuses.
    """
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(output / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(
                f"another process trains in {output}; wait for its end, or choose another --output"
            ) from None
        yield
    finally:
        os.close(descriptor)  # The file stays: removing it would race with another process that has it open.


def require_same_run(output: Path, started: Mapping[str, Any]) -> None:
    """Make sure that what is in a run's folder is this run, unfinished, or nothing.

    Raises:
        TrainingError: The run is finished, or another one, or what it was cannot be read.
    """
    if (output / RESULT_FOLDER).is_dir():
        raise TrainingError(f"{output} holds a finished run; choose another --output, or delete the folder")
    path = output / RUN_FILE
    if not path.is_file():
        return
    before = _read_table(path, f"choose another --output, or delete {output}")
    for key, value in started.items():
        if before.get(key) != value:
            raise TrainingError(
                f"{output} holds a run with another {key} ({before.get(key)}, not {value}); "
                "choose another --output, or delete the folder"
            )


def begin(output: Path, started: Mapping[str, Any]) -> None:
    """Write down what the run is, and clear what a kill left of a checkpoint.

    Raises:
        ExportError: The disk refuses.
    """
    with writing(output):
        (output / CHECKPOINTS_FOLDER).mkdir(parents=True, exist_ok=True)
        shutil.rmtree(output / CHECKPOINTS_FOLDER / STAGING, ignore_errors=True)
        replace_text(output / RUN_FILE, json.dumps(started, indent=2) + "\n")


def last_checkpoint(output: Path) -> str | None:
    """The checkpoint to go on from, looked through before anything is loaded; None for a run that begins.

    Raises:
        TrainingError: A file of it is missing or damaged.
    """
    if not (output / CHECKPOINTS_FOLDER).is_dir():
        return None
    last: str | None = get_last_checkpoint(str(output / CHECKPOINTS_FOLDER))  # type: ignore[no-untyped-call]
    if last is not None:
        _require_whole(Path(last))
    return last


def steps_of(checkpoint: str) -> int:
    """The steps that were made when a checkpoint was saved.

    Raises:
        TrainingError: It does not say.
    """
    path = Path(checkpoint) / STATE_FILE
    remedy = _remedy(path.parent)
    steps = _read_table(path, remedy).get("global_step")
    if not isinstance(steps, int):
        raise TrainingError(f"{path} is damaged: its global_step is {steps!r}; {remedy}")
    return steps


def _require_whole(folder: Path) -> None:
    remedy = _remedy(folder)
    for name in (TRAINED_FILE, *_STATE_FILES):
        if not (folder / name).is_file():
            raise TrainingError(f"{folder / name} is missing; {remedy}")
    _read_table(folder / STATE_FILE, remedy)
    try:
        with safe_open(folder / TRAINED_FILE, "numpy"):  # its header says how long the file must be
            pass
    except (SafetensorError, OSError) as exc:
        raise TrainingError(f"{folder / TRAINED_FILE} is damaged: {exc}; {remedy}") from exc
    for path in sorted([*folder.glob("*.pt"), *folder.glob("*.pth")]):
        try:
            with zipfile.ZipFile(path) as archive:  # torch.save's format, with a checksum of every tensor
                damaged = archive.testzip()
        except (zipfile.BadZipFile, OSError) as exc:
            raise TrainingError(f"{path} is damaged: {exc}; {remedy}") from exc
        if damaged is not None:
            raise TrainingError(f"{path} is damaged: {damaged} has another checksum; {remedy}")


def _remedy(folder: Path) -> str:
    return f"delete {folder}: the run goes on from the checkpoint before it, or from its start"


def _read_table(path: Path, remedy: str) -> dict[str, Any]:
    try:
        table = json.loads(path.read_bytes())
    except ValueError as exc:
        raise TrainingError(f"{path} is damaged: {exc}; {remedy}") from exc
    except OSError as exc:
        raise TrainingError(f"cannot read {path}: {exc.strerror}") from exc
    if not isinstance(table, dict):
        raise TrainingError(f"{path} is damaged: it holds no table; {remedy}")
    return table
