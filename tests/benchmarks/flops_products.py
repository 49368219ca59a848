"""The matrix products of an encoder without all that stands between them, by OpenVINO and by torch.

Shapes: B rows, S tokens, N = B · S, I inputs, O outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
import torch
from openvino import opset13 as ops

from export.source import open_checkpoint
from export.spec import EncoderSpec

KINDS = ("linear", "attention", "head")
Batch = tuple[int, int]
"""Rows and longest row's tokens of a micro-batch."""


@dataclass(frozen=True)
class Products:
    """The matrix products of one encoder.

    Attributes:
        layers: Transformer layers.
        linear: (I, O, K) of a layer's products over all tokens, in order, each taking what the one before gives; K is
            the width of the adapters that are computed beside the weights, I to K to O, and 0 where there are none.
        heads: Attention heads.
        size: Dimensions of a head.
        head: (I, O) of the product over pooled rows.
    """

    layers: int
    linear: tuple[tuple[int, int, int], ...]
    heads: int
    size: int
    head: tuple[int, int]

    def flops(self, batch: Batch) -> dict[str, int]:
        """Operations of a micro-batch, by kind."""
        rows, length = batch
        per_token = sum(i * o + i * k + k * o for i, o, k in self.linear)
        return {
            "linear": 2 * self.layers * rows * length * per_token,
            "attention": 2 * self.layers * rows * 2 * length * length * self.heads * self.size,
            "head": 2 * rows * self.head[0] * self.head[1],
        }

    def inputs(self, batch: Batch, dtype: torch.dtype) -> dict[str, list[torch.Tensor]]:
        """Random inputs of each kind of product; scores and mixtures stay about 1."""
        rows, length = batch
        heads = (rows, self.heads, length, self.size)
        key, value = torch.randn(heads) / self.size**0.5, torch.randn(heads) / length**0.5
        return {
            "linear": [torch.randn(rows * length, self.linear[0][0]).to(dtype)],
            "attention": [tensor.to(dtype) for tensor in (torch.randn(heads), key, value)],
            "head": [torch.randn(rows, self.head[0]).to(dtype)],
        }


def products_of(spec: EncoderSpec) -> Products:
    """Read the shapes off a BERT's configuration and its spec."""
    config = open_checkpoint(spec).config
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    layers = (
        ("query", hidden, hidden),
        ("key", hidden, hidden),
        ("value", hidden, hidden),
        ("dense", hidden, hidden),
        ("dense", hidden, wide),
        ("dense", wide, hidden),
    )
    # Without tasks the adapters are merged; with them, the ranks of all tasks are one product.
    lora = spec.lora if spec.tasks else None
    assert lora is None or set(lora.targets) <= {name for name, *_ in layers}, f"{spec.name}: adapters not counted yet"
    return Products(
        layers=config["num_hidden_layers"],
        linear=tuple(
            (inputs, outputs, spec.adapter_count * lora.rank if lora and name in lora.targets else 0)
            for name, inputs, outputs in layers
        ),
        heads=config["num_attention_heads"],
        size=hidden // config["num_attention_heads"],
        head=(hidden, spec.dimension),
    )


def weight(shape: Sequence[int]) -> Any:
    """Random values that keep the size of what they are multiplied with, float32."""
    return (np.random.default_rng(0).standard_normal(shape) / np.sqrt(shape[-2])).astype(np.float32)


class OpenVinoProducts:
    """The products compiled by OpenVINO, each kind a graph of its own; inputs and weights already in the precision."""

    def __init__(self, products: Products, precision: str, num_threads: int) -> None:
        self._products = products
        self._num_threads = num_threads
        self._type = {"bf16": ov.Type.bf16, "f32": ov.Type.f32}[precision]
        self._precision = precision
        self._requests = {"linear": self._linear(), "attention": self._attention(), "head": self._head()}

    def _constant(self, shape: Sequence[int]) -> Any:
        return ops.convert(ops.constant(weight(shape)), self._type.get_type_name())

    def _compile(self, outputs: list[Any], inputs: list[Any]) -> Any:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self._num_threads,
            "INFERENCE_PRECISION_HINT": self._precision,
        }
        return ov.Core().compile_model(ov.Model(outputs, inputs), "CPU", settings).create_infer_request()

    def _linear(self) -> Any:
        entry = ops.parameter([-1, self._products.linear[0][0]], self._type)
        state = entry
        for _ in range(self._products.layers):
            for inputs, outputs, columns in self._products.linear:
                output = ops.matmul(state, self._constant((inputs, outputs)), False, False)
                if columns:
                    low = ops.matmul(state, self._constant((inputs, columns)), False, False)
                    output = ops.add(output, ops.matmul(low, self._constant((columns, outputs)), False, False))
                state = output
        return self._compile([state], [entry])

    def _attention(self) -> Any:
        shape = [-1, self._products.heads, -1, self._products.size]
        query, key, value = (ops.parameter(shape, self._type) for _ in range(3))
        state: Any = query
        for _ in range(self._products.layers):
            state = ops.matmul(ops.matmul(state, key, False, True), value, False, False)
        return self._compile([state], [query, key, value])

    def _head(self) -> Any:
        entry = ops.parameter([-1, self._products.head[0]], self._type)
        return self._compile([ops.matmul(entry, self._constant(self._products.head), False, False)], [entry])

    def run(self, kind: str, inputs: Sequence[torch.Tensor]) -> None:
        """One micro-batch."""
        tensors = [
            ov.Tensor(tensor.view(torch.int16).numpy(), list(tensor.shape), self._type)
            if tensor.dtype is torch.bfloat16
            else ov.Tensor(tensor.numpy(), shared_memory=True)
            for tensor in inputs
        ]
        self._requests[kind].infer(tensors, share_inputs=True, share_outputs=True)


class TorchProducts:
    """The products by torch, which calls oneDNN or MKL."""

    def __init__(self, products: Products, dtype: torch.dtype) -> None:
        self._products = products

        def matrix(*shape: int) -> torch.Tensor:
            return torch.from_numpy(weight(shape)).to(dtype)

        self._linear = [
            (matrix(i, o), (matrix(i, columns), matrix(columns, o)) if columns else None)
            for i, o, columns in products.linear
        ]
        self._head = matrix(*products.head)

    @torch.inference_mode()
    def run(self, kind: str, inputs: Sequence[torch.Tensor]) -> None:
        """One micro-batch."""
        state = inputs[0]
        if kind == "head":
            torch.mm(state, self._head)
            return
        for _ in range(self._products.layers):
            if kind == "attention":
                state = torch.matmul(torch.matmul(state, inputs[1].transpose(2, 3)), inputs[2])
                continue
            for matrix, adapter in self._linear:
                output = torch.mm(state, matrix)
                if adapter is not None:
                    output = torch.addmm(output, torch.mm(state, adapter[0]), adapter[1])
                state = output
