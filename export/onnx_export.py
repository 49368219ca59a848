"""Torch module to ONNX file: dynamic batch and sequence, checked, and the same bytes every time."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch

from export.encoder import Encoder
from export.errors import ExportError
from export.spec import EncoderSpec

# 18 is the exporter's native opset: onnxruntime, OpenVINO and TensorRT all take it without a version conversion.
OPSET = 18
# "embedding" collides with an internal value name of the dynamo exporter.
OUTPUT = "sentence_embedding"


def input_names(spec: EncoderSpec) -> list[str]:
    """Inputs of the graph, in order; `task_id` only for an encoder with task adapters."""
    return ["input_ids", "attention_mask", *(["task_id"] if spec.tasks else [])]


def export_onnx(encoder: Encoder, spec: EncoderSpec, path: Path) -> None:
    """Write the encoder as one self-contained ONNX file.

    Raises:
        ExportError: The graph is over 2 GB, or fails the ONNX checker.
    """
    names = input_names(spec)
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
            opset_version=OPSET,
            input_names=names,
            output_names=[OUTPUT],
            dynamic_shapes=tuple(shapes),
            verbose=False,
        )
    if program is None:
        raise ExportError(f"{spec.name}: torch.onnx.export gave no program")
    model = program.model_proto
    strip_metadata(model)
    try:
        onnx.checker.check_model(model, full_check=True)
        path.write_bytes(model.SerializeToString(deterministic=True))
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as exc:
        raise ExportError(f"{spec.name}: the exported graph is not valid ONNX: {exc}") from exc


def strip_metadata(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes about this machine: stack traces, source paths, module names."""
    graph = model.graph
    holder: Any  # protobuf messages of several types, all of which have both fields
    for holder in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        holder.doc_string = ""
        del holder.metadata_props[:]


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
