"""Trained weights on top of a base: LoRA matrices and the head.

Layout of `adapters.safetensors`, float32 or float16 (T adapters, R rank, I inputs, O outputs, D dimension, H base,
V tokens of the vocabulary):

- `head.weight` (D, H)
- `lora.<layer>.A` (T, R, I) and `lora.<layer>.B` (T, O, R) for each adapted layer, `<layer>` being its path in the
  transformers model, such as `encoder.layer.0.attention.self.query`. Of an embedding, I is the vocabulary.
- `words.weight` (V,), the weight of every token in the words part, for an encoder that has one

T follows the order of the spec's tasks, or is 1 for an encoder without tasks, whose adapter is merged at export.
PEFT's own folders are read by `export.peft_adapters`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from export.errors import ExportError
from export.spec import EncoderSpec

Array = NDArray[np.float32]


@dataclass(frozen=True)
class LayerAdapter:
    """The stacked low-rank matrices of one layer: `A_TRI` (T, R, I) and `B_TOR` (T, O, R)."""

    A_TRI: Array
    B_TOR: Array

    def delta(self, task: int, scale: float) -> Array:
        """The dense update of one task's weight, (O, I); an embedding's table takes its transpose."""
        delta_OI: Array = (scale * (self.B_TOR[task] @ self.A_TRI[task])).astype(np.float32)
        return delta_OI


@dataclass(frozen=True)
class Adapters:
    """What a checkpoint adds to its base.

    Attributes:
        head: The linear map up to the encoder's dimension, (D, H); None for an encoder without a head.
        layers: The adapter of every adapted layer by its path; empty when there are none.
        scale: Factor on every low-rank product.
        words: Weight of every token in the words part, (V,); None for an encoder without one.
    """

    head: Array | None
    layers: Mapping[str, LayerAdapter]
    scale: float
    words: Array | None = None


def isometric_head(dimension: int, base_dimension: int, seed: int) -> Array:
    """A matrix with orthonormal columns, so that cosines after it equal cosines before it.

    The Q of a seeded float64 Gaussian matrix; signs follow R's diagonal, which makes Q unique and uniform over
    such matrices (Mezzadri 2007, "How to generate random matrices from the classical compact groups").

    Returns:
        head_DH (dimension, base_dimension), float32.
    """
    gaussian_DH = np.random.default_rng(seed).standard_normal((dimension, base_dimension))
    q_DH, r_HH = np.linalg.qr(gaussian_DH)
    return np.ascontiguousarray(q_DH * np.sign(np.diag(r_HH)), dtype=np.float32)


def initial_head(spec: EncoderSpec) -> Array | None:
    """The untrained head of an encoder that has one."""
    return isometric_head(spec.dimension, spec.base_dimension, spec.head.seed) if spec.head else None


def initial_adapters(spec: EncoderSpec, layer_shapes: Mapping[str, tuple[int, int]], vocabulary: int) -> Adapters:
    """Untrained adapters: A random, B zero, so that the encoder is exactly its base behind an isometric head.

    Args:
        spec: The encoder.
        layer_shapes: (outputs, inputs) of every adapted layer; empty for an encoder without adapters.
        vocabulary: Tokens of the base; words weigh nothing at first.
    """
    if spec.lora is None:
        return Adapters(initial_head(spec), {}, 1.0)
    rng = np.random.default_rng(spec.head.seed if spec.head else 0)
    tasks, rank = spec.adapter_count, spec.lora.rank
    layers = {
        path: LayerAdapter(
            A_TRI=(rng.standard_normal((tasks, rank, inputs)) / np.sqrt(inputs)).astype(np.float32),
            B_TOR=np.zeros((tasks, outputs, rank), dtype=np.float32),
        )
        for path, (outputs, inputs) in sorted(layer_shapes.items())
    }
    words = np.zeros(vocabulary, np.float32) if spec.words else None
    return Adapters(initial_head(spec), layers, spec.lora.scale, words)


def save_adapters(adapters: Adapters, path: Path, dtype: type[np.floating[Any]] = np.float32) -> None:
    """Write the layout that this module's docstring describes, rounded to float16 where that is asked for."""
    tensors = {} if adapters.head is None else {"head.weight": adapters.head}
    if adapters.words is not None:
        tensors["words.weight"] = adapters.words
    for layer, adapter in adapters.layers.items():
        tensors[f"lora.{layer}.A"] = adapter.A_TRI
        tensors[f"lora.{layer}.B"] = adapter.B_TOR
    save_file({name: tensor.astype(dtype) for name, tensor in tensors.items()}, path)


def load_adapters(
    path: Path, spec: EncoderSpec, layer_shapes: Mapping[str, tuple[int, int]], vocabulary: int
) -> Adapters:
    """Read trained adapters and check every name and shape against the spec.

    Raises:
        ExportError: The file is unreadable, a tensor is missing, unknown, of a wrong shape or not finite.
    """
    if spec.lora is None:
        raise ExportError(f"{path}: {spec.name} has no adapters in its spec; use PEFT's format, which states its own")
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as exc:
        raise ExportError(f"cannot read the adapters {path}: {exc}") from exc
    tasks, rank = spec.adapter_count, spec.lora.rank
    shapes: dict[str, tuple[int, ...]] = {"head.weight": (spec.dimension, spec.base_dimension)} if spec.head else {}
    if spec.words is not None:
        shapes["words.weight"] = (vocabulary,)
    for layer, (outputs, inputs) in layer_shapes.items():
        shapes[f"lora.{layer}.A"] = (tasks, rank, inputs)
        shapes[f"lora.{layer}.B"] = (tasks, outputs, rank)
    for name in sorted(shapes.keys() ^ tensors.keys()):
        raise ExportError(f"{path}: tensor {name} is {'missing' if name in shapes else 'unknown'} for {spec.name}")
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.shape != shape or tensor.dtype not in (np.float32, np.float16):
            raise ExportError(f"{path}: {name} is {tensor.dtype} {tensor.shape}, {spec.name} needs float32 {shape}")
        if not np.isfinite(tensor).all():
            raise ExportError(f"{path}: {name} holds a value that is not finite")
        tensors[name] = tensor.astype(np.float32)
    layers = {
        layer: LayerAdapter(tensors[f"lora.{layer}.A"], tensors[f"lora.{layer}.B"]) for layer in sorted(layer_shapes)
    }
    return Adapters(tensors.get("head.weight"), layers, spec.lora.scale, tensors.get("words.weight"))
