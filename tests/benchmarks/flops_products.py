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
        linear: (I, O) of a layer's products over all tokens, in order; each one's input is the output before it, but
            for the adapters', which `chain` says.
        adapters: (I, K, O) of a layer's adapters that are computed beside the weights: down to K, up to O.
        heads: Attention heads.
        size: Dimensions of a head.
        head: (I, O) of the product over pooled rows.
    """

    layers: int
    linear: tuple[tuple[int, int], ...]
    adapters: tuple[tuple[int, int, int], ...]
    heads: int
    size: int
    head: tuple[int, int]

    def flops(self, batch: Batch) -> dict[str, int]:
        """Operations of a micro-batch, by kind."""
        rows, length = batch
        per_token = sum(i * o for i, o in self.linear) + sum(i * k + k * o for i, k, o in self.adapters)
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
    adapters: tuple[tuple[int, int, int], ...] = ()
    if spec.tasks:  # else they are merged
        assert spec.lora is not None and set(spec.lora.targets) <= {"query", "key", "value"}
        columns = spec.adapter_count * spec.lora.rank  # all tasks' ranks in one product
        adapters = ((hidden, columns, hidden),) * len(spec.lora.targets)
    return Products(
        layers=config["num_hidden_layers"],
        linear=(*((hidden, hidden),) * 4, (hidden, wide), (wide, hidden)),
        adapters=adapters,
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
            adapters = list(self._products.adapters)
            for shape in self._products.linear:
                output = ops.matmul(state, self._constant(shape), False, False)
                if adapters and shape == (adapters[0][0], adapters[0][2]):
                    inputs, columns, outputs = adapters.pop()
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
        self._linear = [torch.from_numpy(weight(shape)).to(dtype) for shape in products.linear]
        self._adapters = [
            (torch.from_numpy(weight((i, k))).to(dtype), torch.from_numpy(weight((k, o))).to(dtype))
            for i, k, o in products.adapters
        ]
        self._head = torch.from_numpy(weight(products.head)).to(dtype)

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
            adapters = list(self._adapters)
            for matrix in self._linear:
                output = torch.mm(state, matrix)
                if adapters:
                    down, up = adapters.pop()
                    output = torch.addmm(output, torch.mm(state, down), up)
                state = output
