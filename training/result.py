"""The result of a run: a folder that `duovec-export build --checkpoint` takes, and its card."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig
from safetensors.numpy import save_file
from torch import nn

from export.adapters import Adapters, Array, LayerAdapter, save_adapters
from export.disk import sync, sync_folder
from export.peft_adapters import WEIGHTS_FILE
from export.source import ADAPTERS_FILE, LINEAGE_FILE, Checkpoint, sha256_of, task_folder
from export.spec import EncoderSpec
from export.transformer import load_transformer
from training.dataset import card_of
from training.model import TrainedEncoder, lora_matrices
from training.recipe import Recipe
from training.saving import saving

RESULT_FOLDER = "result"
RECIPE_FILE = "recipe.toml"
_BASE_FILES = {".json", ".safetensors", ".txt", ".model"}


@dataclass(frozen=True)
class Lineage:
    """Where a result comes from.

    Attributes:
        recipe: The recipe's file.
        data_sha256: Digest of the data set.
        data: Its folder.
        rows: Rows trained on.
        absent_styles: Styles of queries that the recipe names and the data lacks.
        steps: Optimizer steps made.
        seconds: That the last process took; a run that was taken up took longer.
        base: Origin of the base, as the export states it.
        code: duovec's version and commit when the last process began.
        words: Weights of the words part, (V,); None for an encoder without one.
    """

    recipe: Path
    data_sha256: str
    data: Path
    rows: int
    absent_styles: Sequence[str]
    steps: int
    seconds: float
    base: dict[str, Any]
    code: str
    words: Array | None = None


def write_result(
    encoder: TrainedEncoder, spec: EncoderSpec, recipe: Recipe, checkpoint: Checkpoint, lineage: Lineage, folder: Path
) -> None:
    """Write the result whole or not at all.

    Raises:
        ExportError: The disk refuses.
    """
    staged = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(staged, ignore_errors=True)
    try:
        with saving(staged):
            staged.mkdir(parents=True)
            _write(encoder, spec, recipe, checkpoint, lineage, staged)
            sync_folder(staged)
            os.rename(staged, folder)  # noqa: PTH104
            sync(folder.parent)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)  # what fills the disk
        raise


def _write(
    encoder: TrainedEncoder, spec: EncoderSpec, recipe: Recipe, checkpoint: Checkpoint, lineage: Lineage, folder: Path
) -> None:
    if encoder.lora is None:
        _write_full(encoder, spec, checkpoint, recipe.keep_share, lineage.words, folder)
    elif spec.lora is not None and spec.head is not None:
        adapters = replace(trained_adapters(encoder, spec, recipe.keep_share), words=lineage.words)
        save_adapters(adapters, folder / ADAPTERS_FILE, np.float16)
    else:
        _write_peft(encoder, spec, recipe.keep_share, folder)
    if encoder.lora is not None and "folder" in checkpoint.origin:
        _copy_base(checkpoint, folder)
    shutil.copyfile(lineage.recipe, folder / RECIPE_FILE)
    _write_card(spec, lineage, folder)


def trained_adapters(encoder: TrainedEncoder, spec: EncoderSpec, keep_share: float) -> Adapters:
    """Head and adapters as the export reads them.

    Tasks that were not trained keep what they had. With a share below 1 the change is scaled down: B of a low-rank
    product that began at zero, and the head's distance to its start.
    """
    before = encoder.adapters
    layers: dict[str, LayerAdapter] = {}
    assert encoder.lora is not None  # noqa: S101
    positions = [spec.tasks.index(task) for task in encoder.tasks] or [0]
    for path in adapted_paths(encoder):
        old = before.layers.get(path)
        per_route = [lora_matrices(one.model.get_submodule(path)) for one in encoder.transformers]
        shapes = [(1, *one.shape) for one in per_route[0]]
        a_TRI = np.zeros(shapes[0], np.float32) if old is None else old.A_TRI.copy()
        b_TOR = np.zeros(shapes[1], np.float32) if old is None else old.B_TOR.copy()
        for (a_RI, b_OR), position in zip(per_route, positions, strict=True):
            start = b_TOR[position].copy()
            a_TRI[position] = a_RI.detach().float().cpu().numpy()
            b_TOR[position] = start + keep_share * (b_OR.detach().float().cpu().numpy() - start)
        layers[path] = LayerAdapter(a_TRI, b_TOR)
    return Adapters(_trained_head(encoder, keep_share), layers, encoder.lora.scale)


def adapted_paths(encoder: TrainedEncoder) -> list[str]:
    """Paths of the adapted layers in the base, sorted."""
    model = encoder.transformers[0].model
    return sorted(path for path, module in model.named_modules() if hasattr(module, "lora_A"))


def _trained_head(encoder: TrainedEncoder, keep_share: float) -> Array | None:
    if encoder.head is None or encoder.adapters.head is None:
        return None
    start_DH = encoder.adapters.head
    head_DH: Array = start_DH + keep_share * (encoder.head.weight.detach().float().cpu().numpy() - start_DH)
    return np.ascontiguousarray(head_DH, dtype=np.float32)


def _write_full(
    encoder: TrainedEncoder,
    spec: EncoderSpec,
    checkpoint: Checkpoint,
    keep_share: float,
    words: Array | None,
    folder: Path,
) -> None:
    """The whole transformer in transformers' layout, and the head beside it with adapters that change nothing."""
    model: Any = encoder.transformers[0].model
    if keep_share < 1.0:
        start = load_transformer(spec, checkpoint).state_dict()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.lerp_(start[name].to(parameter.device), 1.0 - keep_share)
    model.save_pretrained(folder)
    for path in checkpoint.folder.glob("tokenizer*"):
        shutil.copyfile(path, folder / path.name)
    if spec.head is not None:
        untouched = {
            path: LayerAdapter(one.A_TRI, np.zeros_like(one.B_TOR)) for path, one in encoder.adapters.layers.items()
        }
        adapters = Adapters(_trained_head(encoder, keep_share), untouched, encoder.adapters.scale, words)
        save_adapters(adapters, folder / ADAPTERS_FILE, np.float16)


def _copy_base(checkpoint: Checkpoint, folder: Path) -> None:
    """A base of one's own goes with its adapters: the export would put them on the spec's."""
    for path in checkpoint.folder.iterdir():
        if path.is_file() and path.suffix in _BASE_FILES and not path.name.startswith("adapter"):
            shutil.copyfile(path, folder / path.name)


def _write_peft(encoder: TrainedEncoder, spec: EncoderSpec, keep_share: float, folder: Path) -> None:
    """PEFT's folders: one a task of the spec, or the adapter of an encoder without tasks at the root."""
    adapters, lora, model = trained_adapters(encoder, spec, keep_share), encoder.lora, encoder.transformers[0].model
    assert lora is not None  # noqa: S101
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets), inference_mode=True)  # type: ignore[arg-type]
    for position, task in enumerate(spec.tasks or ("",)):
        inside = folder / task_folder(task) if task else folder
        inside.mkdir(exist_ok=True)
        tensors = {}
        for path, adapter in adapters.layers.items():
            embedding = isinstance(_base_layer(model, path), nn.Embedding)
            for side, matrix in (("A", adapter.A_TRI[position]), ("B", adapter.B_TOR[position])):
                name = f"lora_embedding_{side}" if embedding else f"lora_{side}.weight"
                tensors[f"base_model.model.{path}.{name}"] = np.ascontiguousarray(matrix)
        save_file(tensors, inside / WEIGHTS_FILE, metadata={"format": "pt"})
        config.save_pretrained(str(inside))


def _base_layer(model: Any, path: str) -> nn.Module:
    layer: nn.Module = model.get_submodule(path).get_base_layer()
    return layer


def _write_card(spec: EncoderSpec, lineage: Lineage, folder: Path) -> None:
    facts = {
        "encoder": spec.name,
        "recipe_sha256": sha256_of(lineage.recipe),
        "data_sha256": lineage.data_sha256,
        "data_card": card_of(lineage.data),
        "base": lineage.base,
        "code": lineage.code,
        "rows": lineage.rows,
        "absent_styles": list(lineage.absent_styles),
        "steps": lineage.steps,
        "seconds": round(lineage.seconds, 1),
        "versions": {name: version(name) for name in ("torch", "transformers", "sentence-transformers", "peft")},
        "license": spec.license.identifier,
    }
    (folder / LINEAGE_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    base = lineage.base.get("package") or lineage.base.get("repository") or lineage.base.get("folder")
    card = (
        f"# {spec.name}, fine-tuned\n\n"
        f"Adapters for {base}, license {spec.license.identifier} ({spec.license.url})."
        f"{' Forbidden: ' + spec.license.forbids + '.' if spec.license.forbids else ''}\n\n"
        f"Trained in {lineage.steps} steps on {lineage.rows} rows of a data set with SHA-256 "
        f"`{lineage.data_sha256}`, by the recipe in `{RECIPE_FILE}`. Everything else stands in `{LINEAGE_FILE}`.\n\n"
        "What it is worth: `duovec-train evaluate`. To the export:\n\n"
        f"```bash\nduovec-export build --encoder {spec.name} --checkpoint . --repository models\n```\n"
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
