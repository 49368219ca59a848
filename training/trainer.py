"""sentence-transformers' trainer with what a run here needs besides: atomic checkpoints of the trained weights alone,
and an end at a loss that is none, has diverged, or is that of a collapsed encoder."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from torch import Tensor
from transformers.trainer_utils import rotate_checkpoints

from export.disk import sync, sync_folder, writing
from training.dataset import Row
from training.errors import TrainingError
from training.loss_watch import LossWatch
from training.saving import saving

TRAINED_FILE = "trained.safetensors"
STAGING = ".staging"


@dataclass
class Arguments(SentenceTransformerTrainingArguments):
    """Training arguments that keep to one GPU.

    transformers' own always take the first GPU, and with several in sight spread each batch over all of them
    (DataParallel), which would multiply the batch of the recipe.

    Attributes:
        gpu: The GPU of a process that trains alone; torchrun's processes find theirs by rank.
    """

    gpu: int = 0

    @cached_property
    def _setup_devices(self) -> torch.device:
        device: torch.device = super()._setup_devices
        if device.type == "cpu" or self.world_size > 1:
            return device
        self._n_gpu = 1
        device = torch.device("cuda", self.gpu)
        # accelerate puts the model on the current GPU, whichever that is.
        torch.cuda.set_device(device)
        return device


class RowCollator(SentenceTransformerDataCollator):
    """Tokenizes the columns, queries as `query` and all others as `document`, and keeps the rows' numbers."""

    def _get_task_for_column(self, column_name: str, column_position: int, router_mapping: dict[str, str]) -> str:
        return "query" if column_name == "query" else "document"

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """One batch: tensors a column, and `rows` (B,) int64."""
        rows = torch.tensor([one["row"] for one in features])
        batch: dict[str, Any] = super().__call__([{k: v for k, v in one.items() if k != "row"} for one in features])
        return {**batch, "rows": rows}


class Trainer(SentenceTransformerTrainer):
    """The trainer of a run.

    Args:
        rows: What the rows' numbers name, for messages.
        watch: Says when a loss has diverged, and when the encoder has collapsed.
        arguments: Those of SentenceTransformerTrainer.
    """

    def __init__(self, *, rows: Sequence[Row], watch: LossWatch, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._rows = rows
        self._watch = watch
        self._watched = 0  # entries of the state's history that the watch has seen
        self._batch: list[int] = []
        self._staging: Path | None = None
        self.tokens = 0  # seen by this process since the start of this process

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """One forward and backward pass.

        Raises:
            TrainingError: The loss is not finite, or has diverged; names step and rows, before any weight changes.
        """
        self._batch = inputs.pop("rows").tolist()
        self.tokens += sum(int(mask.sum()) for name, mask in inputs.items() if name.endswith("attention_mask"))
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        value = float(loss) * self.current_gradient_accumulation_steps
        if not math.isfinite(value):
            raise self._stopped(f"the loss is {value}")
        self._see_losses()
        if why := self._watch.divergence_of(value):
            raise self._stopped(why)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a step: the mean loss of all processes, before the step is saved.

        Raises:
            TrainingError: The encoder has collapsed.
        """
        super().log(logs, start_time)
        self._see_losses()
        if why := self._watch.collapse():
            raise TrainingError(
                f"step {self.state.global_step}: {why}. Lower optimizer.learning_rate or raise optimizer.warmup, and "
                "train in another --output: the checkpoints since then are of this encoder"
            )

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
        # A scaler of fp16 skips such a step by itself and lowers its scale.
        if self.args.max_grad_norm and not self.args.fp16 and not math.isfinite(float(norm)):
            raise self._stopped(f"the gradient's norm is {float(norm)}")
        return norm

    def _see_losses(self) -> None:
        """Show the watch what was logged, of a run that was taken up also what was logged before."""
        for one in self.state.log_history[self._watched :]:
            if "loss" in one:
                self._watch.see(one["loss"])
        self._watched = len(self.state.log_history)

    def _stopped(self, why: str) -> TrainingError:
        named = [f"{self._rows[number].package} {self._rows[number].origin}" for number in self._batch]
        some = "; ".join(named[:4]) + (f" and {len(named) - 4} more" if len(named) > 4 else "")
        return TrainingError(
            f"step {self.state.global_step + 1}: {why}; nothing of this step was kept. Its batch: {some}. "
            "Lower optimizer.learning_rate, or look at these rows; the last checkpoint is whole"
        )

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """None: the result has a card of its own."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self._get_output_dir(None))
        folder.mkdir(parents=True, exist_ok=True)
        trained = {name: one.detach().contiguous() for name, one in self.model.named_parameters() if one.requires_grad}
        save_file(trained, folder / TRAINED_FILE)

    def load(self, checkpoint: str) -> None:
        """Put a checkpoint's weights into the model; raises as `load_trained`."""
        self._load_from_checkpoint(checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_trained(self.model, Path(resume_from_checkpoint) / TRAINED_FILE)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging or self.args.output_dir)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save into a staging folder and rename it: a checkpoint is whole or not there."""
        output = Path(str(self.args.output_dir))
        self._staging = output / STAGING
        name = f"checkpoint-{self.state.global_step}"
        try:
            with saving(self._staging):
                super()._save_checkpoint(model, trial)
        finally:
            self._staging = None
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            with writing(output / name):
                sync_folder(output / STAGING / name)
                (output / STAGING / name).rename(output / name)
                (output / STAGING).rmdir()
                sync(output)
            rotate_checkpoints(output_dir=str(output), save_total_limit=self.args.save_total_limit)
        self.accelerator.wait_for_everyone()


def load_trained(model: torch.nn.Module, path: Path) -> None:
    """Put the trained weights of a checkpoint into a model.

    Raises:
        TrainingError: They are not those of this model: the recipe or the base has changed.
    """
    trained = load_file(path)
    parameters = {name: one for name, one in model.named_parameters() if one.requires_grad}
    for name in sorted(trained.keys() ^ parameters.keys()):
        raise TrainingError(f"{path}: {name} is {'unknown' if name in trained else 'missing'}; it is of another recipe")
    for name, parameter in parameters.items():
        if parameter.shape != trained[name].shape:
            raise TrainingError(
                f"{path}: {name} is {tuple(trained[name].shape)}, the model has {tuple(parameter.shape)}; "
                "it is of another recipe"
            )
        with torch.no_grad():
            parameter.copy_(trained[name])
