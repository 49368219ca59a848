"""What a run says while it goes on: metrics.jsonl, TensorBoard, a progress bar."""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from transformers import TrainerCallback
from transformers.trainer_callback import ProgressCallback

from export.disk import replace_text, writing
from training.errors import TrainingError

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"
_KEPT = ("loss", "grad_norm", "learning_rate", "tokens_per_s", "epoch")


class MetricsFile(TrainerCallback):
    """Writes one JSON line a logged step: step, loss, gradient norm before clipping, learning rate, tokens/s.

    A run that is taken up continues the file: steps after the checkpoint, which are made again, are cut off first.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        cut_metrics(self._path, state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero or logs is None or "loss" not in logs:
            return
        line = {"step": state.global_step, **{name: logs[name] for name in _KEPT if name in logs}}
        with writing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class Speed(TrainerCallback):
    """Adds tokens/s to what is logged: of all processes, padding not counted, since the last log.

    Put it before the callbacks that write: they are called in order, with the same dictionary.
    """

    def __init__(self) -> None:
        self._tokens, self._since_s = 0, time.monotonic()
        self.trainer: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._tokens, self._since_s = self.trainer.tokens, time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs is None or "loss" not in logs:
            return
        now_s, tokens = time.monotonic(), self.trainer.tokens
        logs["tokens_per_s"] = round((tokens - self._tokens) * args.world_size / max(now_s - self._since_s, 1e-9), 1)
        self._tokens, self._since_s = tokens, now_s


class Bar(ProgressCallback):
    """tqdm's bar with the loss beside it; the usual one prints a dictionary a step."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and self.training_bar is not None and logs and "loss" in logs:
            self.training_bar.set_postfix(
                refresh=False, loss=f"{logs['loss']:.3f}", tokens_per_s=f"{logs.get('tokens_per_s', 0):.0f}"
            )


class Board(TrainerCallback):
    """TensorBoard's events, in a folder of the run, a file a process that trained.

    Written at each step, here: TensorBoard's own writer is a thread, which ends in a traceback when the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            with writing(self._path.parent):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero or logs is None or "loss" not in logs:
            return
        values = [Summary.Value(tag=f"train/{name}", simple_value=logs[name]) for name in _KEPT if name in logs]
        with writing(self._path):
            self._write(Event(wall_time=time.time(), step=state.global_step, summary=Summary(value=values)))

    def _write(self, event: Event) -> None:
        with self._path.open("ab") as file:
            RecordWriter(file).write(event.SerializeToString())


def cut_metrics(path: Path, steps: int) -> None:
    """Leave the lines of the first so many steps; raises as `read_metrics`, and ExportError where the disk refuses."""
    kept = [line for line in read_metrics(path) if line["step"] <= steps]
    with writing(path):
        replace_text(path, "".join(json.dumps(line) + "\n" for line in kept))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file, each with `step` and `loss`; a last line that a kill has cut short is left out.

    Raises:
        TrainingError: Another line is none of a run's.
    """
    if not path.is_file():
        return []
    whole = []
    for number, text in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not text.endswith(b"\n"):
            continue
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if not isinstance(line, dict) or not all(isinstance(line.get(key), int | float) for key in ("step", "loss")):
            raise TrainingError(f"{path}: line {number} is damaged; delete it, the others are kept")
        whole.append(line)
    return whole
