"""LoRA adapters in PEFT's folders: one at the root, or one in a subfolder a task."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from export.adapters import Adapters, Array, LayerAdapter, initial_head
from export.errors import ExportError
from export.source import PEFT_CONFIG, task_folder
from export.spec import EncoderSpec

WEIGHTS_FILE = "adapter_model.safetensors"
# `lora_A.weight` of linear layers, `lora_embedding_A` of embeddings; PEFT leaves the adapter's name out on saving.
_TENSOR = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?:embedding_)?(?P<side>[AB])(?:\.weight)?")


def load_peft(folder: Path, spec: EncoderSpec) -> Adapters:
    """Read the PEFT adapters of an encoder: those of its tasks stacked in order, or the single one of the folder.

    Raises:
        ExportError: A folder or tensor is missing, the tasks do not fit each other, or PEFT's configuration asks for
            something that changes the layer in another way than `W + scale · B A`.
    """
    folders = [folder / task_folder(task) for task in spec.tasks] or [folder]
    loaded = [_load_one(one) for one in folders]
    scale, first = loaded[0]
    for (other_scale, other), path in zip(loaded, folders, strict=True):
        if other_scale != scale:
            raise ExportError(f"{path}: alpha / rank is {other_scale:g}, that of {folders[0]} is {scale:g}")
        for layer in sorted(first.keys() ^ other.keys()):
            raise ExportError(f"{path} and {folders[0]} do not adapt the same layers: {layer} is in one of them only")
        for layer, (a_RI, b_OR) in first.items():
            if other[layer][0].shape != a_RI.shape or other[layer][1].shape != b_OR.shape:
                raise ExportError(f"{path}: the adapter of {layer} has another shape than that of {folders[0]}")
    if spec.lora is not None and (scale, next(iter(first.values()))[0].shape[0]) != (spec.lora.scale, spec.lora.rank):
        raise ExportError(
            f"{folders[0]}: rank and scale are {next(iter(first.values()))[0].shape[0]} and {scale:g}, "
            f"the spec of {spec.name} says {spec.lora.rank} and {spec.lora.scale:g}"
        )
    layers = {
        layer: LayerAdapter(
            np.stack([tensors[layer][0] for _, tensors in loaded]),
            np.stack([tensors[layer][1] for _, tensors in loaded]),
        )
        for layer in sorted(first)
    }
    return Adapters(initial_head(spec), layers, scale)


def _load_one(folder: Path) -> tuple[float, dict[str, tuple[Array, Array]]]:
    """Scale, and A (R, I) and B (O, R) of every adapted layer."""
    scale = _scale(folder / PEFT_CONFIG)
    path = folder / WEIGHTS_FILE
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as exc:
        raise ExportError(f"cannot read the adapter {path}: {exc}") from exc
    sides: dict[str, dict[str, Array]] = {}
    for name, tensor in tensors.items():
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise ExportError(f"{path}: {name} is no LoRA matrix; only A and B of plain LoRA are exported")
        values = tensor.astype(np.float32)
        if not np.isfinite(values).all():
            raise ExportError(f"{path}: {name} holds a value that is not finite")
        sides.setdefault(match["layer"], {})[match["side"]] = values
    layers = {}
    for layer, pair in sides.items():
        if pair.keys() != {"A", "B"} or pair["A"].shape[0] != pair["B"].shape[1]:
            raise ExportError(f"{path}: A and B of {layer} do not belong together")
        layers[layer] = (pair["A"], pair["B"])
    if not layers:
        raise ExportError(f"{path} holds no adapter")
    return scale, layers


def _scale(path: Path) -> float:
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rank, alpha, kind = int(config["r"]), float(config["lora_alpha"]), config["peft_type"]
    except OSError as exc:
        raise ExportError(f"cannot read {path}: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise ExportError(f"{path} is not PEFT's configuration of a LoRA adapter: {exc!r}") from exc
    unsupported: Sequence[str] = [
        key
        for key in ("use_dora", "use_qalora", "modules_to_save", "rank_pattern", "alpha_pattern", "megatron_config")
        if config.get(key)
    ]
    if kind != "LORA" or config.get("bias", "none") != "none" or unsupported:
        what = ", ".join(unsupported) or (f"bias {config['bias']!r}" if kind == "LORA" else f"peft_type {kind!r}")
        raise ExportError(f"{path}: {what} is not exported; train plain LoRA, or merge it with PEFT first")
    # Rank-stabilized LoRA: Kalajdzievski 2023, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA".
    scale: float = alpha / (rank**0.5 if config.get("use_rslora") else rank)
    return scale
