"""One training run: recipe and data in, a checkpoint folder out that the export takes as it is.

Layout of a run's folder:

- `run.json`: what it was started with: digests of recipe and data, encoder, base.
- `metrics.jsonl`, `tensorboard/`: every step.
- `checkpoints/checkpoint-N/`: the trained weights, optimizer, schedule, random states; a run is taken up at the last.
- `result/`: what `duovec-export build --checkpoint` takes, with its card. Its presence says that the run has ended.
"""

import json
import math
import os
import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import get_last_checkpoint

from export.disk import replace_text, writing
from export.source import open_checkpoint
from export.spec import EncoderSpec
from training.batches import PackageBatchSampler
from training.code_version import code_version
from training.dataset import Row, columns_of, data_digest, load_rows, training_rows
from training.errors import TrainingError
from training.losses import build_loss
from training.model import ROUTES, TrainedEncoder, build_model
from training.progress import METRICS_FILE, TENSORBOARD_FOLDER, Bar, Board, MetricsFile, Speed
from training.recipe import Recipe, load_recipe
from training.result import RESULT_FOLDER, Lineage, write_result
from training.trainer import STAGING, RowCollator, Trainer
from training.words import word_weights

CHECKPOINTS_FOLDER = "checkpoints"
RUN_FILE = "run.json"


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


def train(request: RunRequest) -> Path:
    """Train, or take an interrupted run up, and write the result.

    Returns:
        The folder of the result.

    Raises:
        TrainingError: The recipe, the data or the device does not do, or the loss is not a number or has diverged.
        ExportError: The base does not fit the spec, or the disk refuses.
    """
    code = code_version()  # of what is loaded now: in the hours that follow the clone may change
    recipe, stated, recipe_digest = load_recipe(request.recipe)
    spec = stated.untrained  # not from what an earlier run of the recipe left in the export
    digest = data_digest(request.data)
    rows = training_rows(load_rows(request.data, "train"), recipe.data, recipe.seed, request.data)
    checkpoint = open_checkpoint(spec, request.base)
    started: dict[str, Any] = {
        "encoder": spec.name,
        "recipe": request.recipe.name,
        "recipe_sha256": recipe_digest,
        "data_sha256": digest,
        "base": dict(checkpoint.origin),
    }
    last = _prepare(request.output, started)
    torch.manual_seed(recipe.seed)
    encoder = build_model(spec, checkpoint, recipe)
    trainer = _trainer(request, recipe, spec, encoder, rows)
    begun_s = time.monotonic()
    trainer.train(resume_from_checkpoint=last)
    result = request.output / RESULT_FOLDER
    if trainer.is_world_process_zero():
        lineage = Lineage(
            request.recipe,
            digest,
            request.data,
            len(rows),
            trainer.state.global_step,
            time.monotonic() - begun_s,
            dict(checkpoint.origin),
            code,
            word_weights(spec, checkpoint, columns_of(rows, recipe.data, recipe.seed)["positive"]),
        )
        write_result(encoder, spec, recipe, checkpoint, lineage, result)
    trainer.accelerator.wait_for_everyone()
    return result


def _prepare(output: Path, started: dict[str, Any]) -> str | None:
    """Make the run's folder, or check that what is in it is this run; gives the checkpoint to go on from."""
    path = output / RUN_FILE
    if (output / RESULT_FOLDER).is_dir():
        raise TrainingError(f"{output} holds a finished run; choose another --output, or delete the folder")
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        for key, value in started.items():
            if before.get(key) != value:
                raise TrainingError(
                    f"{output} holds a run with another {key} ({before.get(key)}, not {value}); "
                    "choose another --output, or delete the folder"
                )
    with writing(output):
        (output / CHECKPOINTS_FOLDER).mkdir(parents=True, exist_ok=True)
        if _is_first_process():
            shutil.rmtree(output / CHECKPOINTS_FOLDER / STAGING, ignore_errors=True)
            replace_text(path, json.dumps(started, indent=2) + "\n")
    last: str | None = get_last_checkpoint(str(output / CHECKPOINTS_FOLDER))  # type: ignore[no-untyped-call]
    return last


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _trainer(
    request: RunRequest, recipe: Recipe, spec: EncoderSpec, encoder: TrainedEncoder, rows: list[Row]
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
        divergence=recipe.divergence,
        model=encoder.model,
        args=_arguments(request, recipe, encoder, rows, routes),
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
    request: RunRequest, recipe: Recipe, encoder: TrainedEncoder, rows: list[Row], routes: dict[str, str]
) -> SentenceTransformerTrainingArguments:
    optimizer, processes = recipe.optimizer, _processes()
    if optimizer.batch % processes:
        raise TrainingError(f"optimizer.batch is {optimizer.batch}, no multiple of the {processes} processes")
    steps = optimizer.epochs * (len(rows) // optimizer.batch)
    if optimizer.max_steps:
        steps = min(steps, optimizer.max_steps)
    if steps < 1:
        raise TrainingError(f"{len(rows)} rows give no whole batch of {optimizer.batch}; lower optimizer.batch")
    head = {} if optimizer.head_learning_rate is None else {r"linear\.weight$": optimizer.head_learning_rate}
    return SentenceTransformerTrainingArguments(
        output_dir=str(request.output / CHECKPOINTS_FOLDER),
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
        router_mapping=routes if encoder.tasks and len(encoder.transformers) > 1 else {},
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
        use_cpu=_on_cpu(request.device),
        ddp_backend="gloo" if _on_cpu(request.device) and processes > 1 else None,
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
        disable_tqdm=None,
    )


def _on_cpu(device: str) -> bool:
    """Whether to train on the CPU.

    Raises:
        TrainingError: A GPU is asked for, and there is none of that number.
    """
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and not (kind == "cuda" and number.isdigit())):
        raise TrainingError(f"device is {device!r}, must be auto, cpu, cuda or cuda:N")
    found = torch.cuda.device_count()
    if kind == "cuda" and int(number or 0) >= found:
        raise TrainingError(f"device is {device}, torch sees {found} GPUs; choose cpu, or auto")
    if number:
        torch.cuda.set_device(int(number))
    return kind == "cpu" or found == 0
