"""One training run: recipe and data in, a checkpoint folder out that the export takes as it is.

Layout of a run's folder:

- `run.json`: what it was started with: digests of recipe and data, encoder, base. `run.lock` is held by who trains.
- `metrics.jsonl`, `tensorboard/`: every step.
- `checkpoints/checkpoint-N/`: the trained weights, optimizer, schedule, random states; a run is taken up at the last.
- `result/`: what `duovec-export build --checkpoint` takes, with its card. Its presence says that the run has ended.
"""

import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from export.source import open_checkpoint
from export.spec import EncoderSpec
from training.batches import PackageBatchSampler
from training.code_version import code_version
from training.dataset import Row, absent_styles, columns_of, data_digest, load_rows, training_rows
from training.device import choose_device
from training.errors import TrainingError
from training.loss_watch import LossWatch
from training.losses import build_loss, chance_loss
from training.model import ROUTES, TrainedEncoder, build_model
from training.progress import METRICS_FILE, TENSORBOARD_FOLDER, Bar, Board, MetricsFile, Speed, cut_metrics
from training.recipe import Recipe, load_recipe
from training.result import RESULT_FOLDER, Lineage, write_result
from training.run_folder import CHECKPOINTS_FOLDER, begin, held, last_checkpoint, require_same_run, steps_of
from training.trainer import Arguments, RowCollator, Trainer
from training.words import word_weights


@dataclass(frozen=True)
class RunRequest:
    """What to train on what.

    Attributes:
        recipe: The recipe's file.
        data: Folder of a mined data set.
        output: The run's folder; an unfinished run of the same recipe and data in it is taken up.
        base: Checkpoint to start from instead of the spec's source.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
    """

    recipe: Path
    data: Path
    output: Path
    base: Path | None = None
    device: str = "auto"


def train(request: RunRequest, on_note: Callable[[str], None] = lambda note: None) -> Path:
    """Train, or take an interrupted run up, and write the result.

    Args:
        request: What on what.
        on_note: Told, by the first process, what the user should know before hours of work.

    Returns:
        The folder of the result.

    Raises:
        TrainingError: The recipe, the data or the device does not do, another process trains in the folder, what it
            holds is of another run or damaged, or the loss is not a number or has diverged.
        ExportError: The base does not fit the spec, or the disk refuses.
    """
    code = code_version()  # of what is loaded now: in the hours that follow the clone may change
    recipe, stated, recipe_digest = load_recipe(request.recipe)
    device = choose_device(request.device, processes=_processes())
    if recipe.optimizer.precision == "fp16" and device.type == "cpu":
        # Autocast would not be on, and the result would be of fp32 under another name.
        raise TrainingError(
            "optimizer.precision is fp16, which needs a GPU, and this runs on the CPU; set bf16 or fp32"
        )
    spec = stated.untrained  # not from what an earlier run of the recipe left in the export
    digest = data_digest(request.data)
    mined = load_rows(request.data, "train")
    rows, absent = training_rows(mined, recipe.data, recipe.seed, request.data), absent_styles(mined, recipe.data)
    if absent and _is_first_process():
        on_note(f"{request.data} has no query of style {', '.join(absent)}: their shares go to the other styles")
    checkpoint = open_checkpoint(spec, request.base)
    started: dict[str, Any] = {
        "encoder": spec.name,
        "recipe": request.recipe.name,
        "recipe_sha256": recipe_digest,
        "data_sha256": digest,
        "base": dict(checkpoint.origin),
    }
    with held(request.output) if _is_first_process() else nullcontext():
        require_same_run(request.output, started)
        if _is_first_process():
            begin(request.output, started)
        last = last_checkpoint(request.output)
        torch.manual_seed(recipe.seed)
        encoder = build_model(spec, checkpoint, recipe)
        trainer = _trainer(request, recipe, spec, encoder, rows, device)
        begun_s = time.monotonic()
        steps = _train(trainer, last, request.output / METRICS_FILE)
        result = request.output / RESULT_FOLDER
        if trainer.is_world_process_zero():
            lineage = Lineage(
                request.recipe,
                digest,
                request.data,
                len(rows),
                absent,
                steps,
                time.monotonic() - begun_s,
                dict(checkpoint.origin),
                code,
                word_weights(spec, checkpoint, columns_of(rows, recipe.data, recipe.seed)["positive"]),
            )
            write_result(encoder, spec, recipe, checkpoint, lineage, result)
        trainer.accelerator.wait_for_everyone()
    return result


def _train(trainer: Trainer, last: str | None, metrics: Path) -> int:
    """Make the steps that are missing, and give how many were made in all."""
    made = 0 if last is None else steps_of(last)
    if last is not None and made >= trainer.args.max_steps:
        # Killed before it wrote its result. transformers looks for the end after a step only, and would make another.
        trainer.load(last)
        if trainer.is_world_process_zero():
            cut_metrics(metrics, made)
        return made
    trainer.train(resume_from_checkpoint=last)
    return int(trainer.state.global_step)


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _trainer(
    request: RunRequest,
    recipe: Recipe,
    spec: EncoderSpec,
    encoder: TrainedEncoder,
    rows: list[Row],
    device: torch.device,
) -> Trainer:
    columns = columns_of(rows, recipe.data, recipe.seed)
    texts = [name for name in columns if name != "row"]
    prompts = {name: spec.query.prompt if name == "query" else spec.passage.prompt for name in texts}
    routes = {name: ROUTES[0] if name == "query" else ROUTES[1] for name in texts}
    prompts = {name: prompt for name, prompt in prompts.items() if prompt}
    speed = Speed()
    collator = RowCollator(
        preprocess_fn=encoder.model.preprocess,
        router_mapping=routes,
        prompts=prompts,
        max_length={"query": recipe.data.query_tokens, "document": recipe.data.passage_tokens},
    )
    trainer = Trainer(
        rows=rows,
        watch=LossWatch(
            recipe.divergence,
            chance_loss(recipe.loss, recipe.optimizer.batch, recipe.data.hard_negatives),
            recipe.optimizer.batch,
        ),
        model=encoder.model,
        args=_arguments(request.output, recipe, rows, routes if len(encoder.transformers) > 1 else {}, device),
        train_dataset=Dataset.from_dict(columns),
        loss=build_loss(encoder.model, recipe.loss, spec.dimension, gather=_processes() > 1),
        data_collator=collator,
        callbacks=[
            speed,
            MetricsFile(request.output / METRICS_FILE),
            Board(request.output / TENSORBOARD_FOLDER),
        ],
    )
    speed.trainer = trainer
    for unwanted in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(unwanted)
    if not trainer.args.disable_tqdm:
        trainer.add_callback(Bar())
    return trainer


def _arguments(
    output: Path, recipe: Recipe, rows: list[Row], routes: dict[str, str], device: torch.device
) -> Arguments:
    optimizer, processes = recipe.optimizer, _processes()
    if optimizer.batch % processes:
        raise TrainingError(f"optimizer.batch is {optimizer.batch}, no multiple of the {processes} processes")
    steps = optimizer.epochs * (len(rows) // optimizer.batch)
    if optimizer.max_steps:
        steps = min(steps, optimizer.max_steps)
    if steps < 1:
        raise TrainingError(f"{len(rows)} rows give no whole batch of {optimizer.batch}; lower optimizer.batch")
    head = {} if optimizer.head_learning_rate is None else {r"linear\.weight$": optimizer.head_learning_rate}
    return Arguments(
        output_dir=str(output / CHECKPOINTS_FOLDER),
        per_device_train_batch_size=optimizer.batch // processes,
        max_steps=steps,
        learning_rate=optimizer.learning_rate,
        learning_rate_mapping=head,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(optimizer.warmup * steps),
        weight_decay=optimizer.weight_decay,
        max_grad_norm=optimizer.max_gradient_norm,
        optim="adamw_torch",
        bf16=optimizer.precision == "bf16",
        fp16=optimizer.precision == "fp16",
        batch_sampler=partial(PackageBatchSampler, rows=rows, run=recipe.data.package_run, processes=processes),
        router_mapping=routes,
        dataloader_drop_last=True,
        dataloader_pin_memory=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=recipe.checkpoints.every_steps,
        save_total_limit=recipe.checkpoints.keep,
        eval_strategy="no",
        report_to=[],
        seed=recipe.seed,
        data_seed=recipe.seed,
        use_cpu=device.type == "cpu",
        gpu=device.index or 0,
        ddp_backend="gloo" if device.type == "cpu" and processes > 1 else None,
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
        disable_tqdm=None,
    )
