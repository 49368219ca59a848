"""Torch module to ONNX: dynamic batch and sequence, checked, and the same bytes every time."""

import gc
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import torch

from export.deployment import input_names
from export.encoder import Encoder
from export.errors import ExportError
from export.python_backend.host import OUTPUT
from export.spec import EncoderSpec

DEFAULT_OPSET = 18
"""The exporter's native opset: onnxruntime, OpenVINO and TensorRT all take it without a version conversion."""
MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "model.onnx.data"
# A protobuf message ends at 2 GiB; beyond this the weights lie in a file of their own beside the graph.
EMBEDDED_BYTES = 1_800_000_000


def export_onnx(encoder: Encoder, spec: EncoderSpec, folder: Path, *, opset: int = DEFAULT_OPSET) -> None:
    """Write `model.onnx` into a folder, with its weights in `model.onnx.data` when they are over 2 GB.

    Weights stay where torch holds them until they are written: one copy in memory, not three.

    Raises:
        ExportError: The exporter gives no graph, or the graph fails the ONNX checker.
        OSError: The disk refuses.
    """
    batch, length = 3, 17
    example = [torch.ones((batch, length), dtype=torch.int64), torch.ones((batch, length), dtype=torch.int64)]
    batch_dim = torch.export.Dim("batch")
    sequence_dim = torch.export.Dim("sequence", max=spec.max_tokens)
    shapes = [{0: batch_dim, 1: sequence_dim}, {0: batch_dim, 1: sequence_dim}]
    if spec.tasks:
        example.append(torch.zeros((batch, 1), dtype=torch.int64))
        shapes.append({0: batch_dim})
    with _quiet_exporter():
        program = torch.onnx.export(
            encoder,
            tuple(example),
            dynamo=True,
            opset_version=opset,
            input_names=list(input_names(takes_task=bool(spec.tasks))),
            output_names=[OUTPUT],
            dynamic_shapes=tuple(shapes),
            verbose=False,
        )
    if program is None:
        raise ExportError(f"{spec.name}: torch.onnx.export gave no program")
    model: onnx_ir.Model = program.model
    if model.opset_imports.get("") != opset:
        raise ExportError(
            f"{spec.name}: the exporter gave opset {model.opset_imports.get('')}, not {opset}; use --opset "
            f"{DEFAULT_OPSET}"
        )
    save_graph(model, folder)
    del program, model
    gc.collect()
    check_graph(folder / MODEL_FILE)


def save_graph(model: onnx_ir.Model, folder: Path) -> None:
    """Write `model.onnx` without a trace of this machine, its weights beside it where they are too many for one file.

    Raises:
        OSError: The disk refuses.
    """
    strip_metadata(model)
    weight_bytes = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    onnx_ir.save(model, folder / MODEL_FILE, external_data=WEIGHTS_FILE if weight_bytes > EMBEDDED_BYTES else None)


def check_graph(path: Path) -> None:
    """Run the ONNX checker with shape inference over a file, its external data included.

    Raises:
        ExportError: The graph is not valid ONNX.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as exc:
        raise ExportError(f"the exported graph {path.name} is not valid ONNX: {exc}") from exc


def strip_metadata(model: onnx_ir.Model) -> None:
    """Drop what the exporter notes about this machine: stack traces, source paths, module names."""
    holders: list[Any] = [model, model.graph, *model.graph.initializers.values()]
    for node in model.graph.all_nodes():
        holders += [node, *node.outputs]
    holders += [*model.graph.inputs, *model.graph.outputs]
    for holder in holders:
        holder.doc_string = None
        holder.metadata_props.clear()


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence known, harmless remarks of the exporter; anything else still surfaces."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)  # "torchvision is not installed"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)", category=FutureWarning)
            warnings.filterwarnings("ignore", message="# The axis name: ", category=UserWarning)
            yield
    finally:
        logger.setLevel(level)
