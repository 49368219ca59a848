"""int8: weights per channel and activations per tensor, by static quantization calibrated on real code."""

import ast
import contextlib
import importlib
import io
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnx_ir
from numpy.typing import NDArray

from export.errors import ExportError
from export.gate.rows import PublishedTokenizer, Row, pad
from export.gate.samples import CALIBRATION_MODULES, module_source, real_functions
from export.onnx_export import MODEL_FILE, WEIGHTS_FILE, check_graph, save_graph
from export.spec import EncoderSpec

CALIBRATION_ROWS = 300
# Every product's inputs of a row are held at once while it is measured; the gate proves that longer rows hold too.
_LONGEST_ROW = 256


def calibration_feeds(
    spec: EncoderSpec, tokenizer_path: Path, count: int = CALIBRATION_ROWS
) -> list[Mapping[str, NDArray[np.int64]]]:
    """Rows to measure the range of activations on: none of them is among those that the gate measures.

    A third are functions, a third docstrings, a third functions cut short. Short rows reach ranges that functions do
    not: calibrated on functions alone, compact-code's queries kept a mean cosine of 0.981 only, and with these 0.992.

    Args:
        spec: The encoder.
        tokenizer_path: The tokenizer.json that is published.
        count: Rows in all.
    """
    tokenizer = PublishedTokenizer(tokenizer_path, spec)
    functions = real_functions(CALIBRATION_MODULES)
    longest = min(_LONGEST_ROW, spec.max_tokens)
    third = count // 3
    texts = [(text, longest) for text in (*_spread(functions, count - 2 * third), *_spread(_docstrings(), third))]
    cut = np.linspace(tokenizer.shortest, min(64, longest), third).round().astype(int).tolist()
    texts += zip(_spread(functions[1:], third), cut, strict=True)
    feeds: list[Mapping[str, NDArray[np.int64]]] = []
    for number, (text, limit) in enumerate(texts):
        ids = tokenizer.ids(text, limit)
        row = Row(text, limit, number % spec.adapter_count, ids)
        feeds.append(pad([row], len(ids), has_tasks=bool(spec.tasks)))
    return feeds


def quantize_int8(folder: Path, feeds: Iterable[Mapping[str, NDArray[np.int64]]]) -> None:
    """Replace the fp32 `model.onnx` of a folder by its int8 version, which OpenVINO and onnxruntime both run.

    Post-training quantization by NNCF's ONNX backend under its scheme for transformers, SmoothQuant and bias correction
    included.

    Args:
        folder: Folder with model.onnx, and model.onnx.data for a large one.
        feeds: Inputs of the graph to calibrate on, one row each.

    Raises:
        ExportError: NNCF is missing, or gives a graph that is not valid.
    """
    nncf = _import_nncf()
    path, rows = folder / MODEL_FILE, list(feeds)
    model = onnx.load(path, load_external_data=False)
    # The shapes that the exporter noted are wrong once weights are transposed.
    del model.graph.value_info[:]
    advanced = nncf.AdvancedQuantizationParameters()
    if (folder / WEIGHTS_FILE).is_file():
        advanced.backend_params["external_data_dir"] = str(folder.resolve())
    # NNCF draws its progress bars on the standard output, which belongs to the command's result.
    with contextlib.redirect_stdout(io.StringIO()):
        quantized = nncf.quantize(
            model,
            nncf.Dataset(rows),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(rows),
            advanced_parameters=advanced,
        )
    del model
    make_activations_unsigned(quantized.graph)
    (folder / WEIGHTS_FILE).unlink(missing_ok=True)
    save_graph(onnx_ir.from_proto(quantized), folder)
    check_graph(path)


def make_activations_unsigned(graph: onnx.GraphProto) -> None:
    """Store activations as uint8 instead of int8, zero point and all 128 higher: the same numbers, in place.

    onnxruntime on x86 has no integer product of int8 by int8, and multiplied those matrices in fp32: a forward pass of
    compact-code took 64 ms of CPU time, as long as fp32's 66, and takes 48 ms so. OpenVINO takes either.
    """
    constants = {one.name: one for one in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in graph.node:
        if node.op_type != "QuantizeLinear" or constants[node.input[2]].data_type != onnx.TensorProto.INT8:
            continue
        zero_point = onnx.numpy_helper.to_array(constants[node.input[2]]).astype(np.int16) + 128
        name = f"{node.output[0]}_unsigned_zero_point"
        graph.initializer.append(onnx.numpy_helper.from_array(zero_point.astype(np.uint8), name))
        node.input[2] = name
        for reader in readers[node.output[0]]:
            reader.input[2] = name
    used = {name for node in graph.node for name in node.input}
    unused = [one for one in graph.initializer if one.name not in used]
    for one in unused:
        graph.initializer.remove(one)
    del graph.value_info[:]  # it states the types as they were


def _import_nncf() -> ModuleType:
    # It reports its use to its makers over the network, except where this says that nobody runs it by hand.
    os.environ.setdefault("NNCF_CI", "1")
    try:
        nncf = importlib.import_module("nncf")
    except ImportError as exc:
        raise ExportError(f"int8 needs NNCF, which cannot be imported ({exc}); run: pip install nncf==3.4.0") from exc
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf


def _spread(texts: Sequence[str], count: int) -> list[str]:
    return [texts[index * len(texts) // count] for index in range(count)]


def _docstrings() -> list[str]:
    """First paragraphs of docstrings: what queries look like."""
    nodes = (node for module in CALIBRATION_MODULES for node in ast.walk(ast.parse(module_source(module))))
    documented = (node for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef))
    docstrings = (ast.get_docstring(node) for node in documented)
    return [" ".join(text.split("\n\n")[0].split()) for text in docstrings if text]
