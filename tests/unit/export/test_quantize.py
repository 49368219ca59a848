"""int8 by NNCF: one graph that both runtimes run, close to fp32, and a clear word where NNCF is missing."""

import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import external_data_helper, helper

from export import quantize
from export.errors import ExportError
from export.gate.rows import PublishedTokenizer, RowMaker, pad
from export.onnx_export import MODEL_FILE, WEIGHTS_FILE
from export.python_backend.host import open_session
from export.quantize import calibration_feeds, quantize_int8
from export.serving import BF16_FLAGS, cpu_flags
from export.source import Checkpoint
from export.spec import EncoderSpec

FEW_ROWS = 24


def vectors_of(folder: Path, runtime: str, precision: str, feeds: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
    """One batch through one runtime."""
    return open_session(runtime, folder / MODEL_FILE, precision, 2).run(feeds)


@pytest.fixture(scope="module")
def feeds(text_spec: EncoderSpec, checkpoint: Checkpoint) -> dict[str, NDArray[np.int64]]:
    """A padded batch of mixed lengths and tasks."""
    maker = RowMaker(text_spec, PublishedTokenizer(checkpoint.tokenizer_path, text_spec))
    rows = [maker.row(length, number) for number, length in enumerate((40, 25, 12, 6))]
    return pad(rows, 40, has_tasks=True)


@pytest.fixture(scope="module")
def quantized(text_spec: EncoderSpec, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compact text encoder in int8, calibrated on few rows for speed."""
    folder = tmp_path_factory.mktemp("int8")
    for name in (MODEL_FILE, "tokenizer.json"):
        shutil.copy(exported / name, folder)
    quantize_int8(folder, calibration_feeds(text_spec, folder / "tokenizer.json", FEW_ROWS))
    return folder


@pytest.mark.parametrize(
    ("runtime", "precision"), [("openvino", "int8"), ("openvino", "int8-bf16"), ("onnxruntime", "int8")]
)
def test_int8_stays_close_to_fp32(
    exported: Path, quantized: Path, feeds: dict[str, NDArray[np.int64]], runtime: str, precision: str
) -> None:
    """Both runtimes run the same file; it is quantized, and near."""
    if precision == "int8-bf16" and not cpu_flags() & BF16_FLAGS:
        pytest.skip("this CPU has no bf16")
    exact = vectors_of(exported, runtime, "fp32", feeds)
    cosines = (exact * vectors_of(quantized, runtime, precision, feeds)).sum(axis=1)
    assert 0.95 < cosines.min() < 0.99999


def test_int8_bf16_is_not_int8(quantized: Path, feeds: dict[str, NDArray[np.int64]]) -> None:
    """What is not int8 runs in bf16, which moves vectors a little."""
    if not cpu_flags() & BF16_FLAGS:
        pytest.skip("this CPU has no bf16")
    int8, mixed = (vectors_of(quantized, "openvino", precision, feeds) for precision in ("int8", "int8-bf16"))
    distances = 1 - (int8 * mixed).sum(axis=1)
    assert 1e-7 < distances.max() < 1e-2


def test_weights_are_int8_per_channel(exported: Path, quantized: Path) -> None:
    """Every big matrix of the layers is stored in a byte a number, with a scale a channel."""
    model = onnx.load(quantized / MODEL_FILE)
    weights = {one.name: one for one in model.graph.initializer}
    matrices = [one for one in weights.values() if one.data_type == onnx.TensorProto.INT8 and len(one.dims) == 2]
    assert len(matrices) >= 6 * 6
    dequantized = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    per_channel = [node for node in dequantized if node.input[0] in weights and weights[node.input[1]].dims[:1] > [1]]
    assert len(per_channel) >= 6 * 6
    assert (quantized / MODEL_FILE).stat().st_size < 0.3 * (exported / MODEL_FILE).stat().st_size


def test_activations_are_unsigned(quantized: Path) -> None:
    """onnxruntime multiplies uint8 by int8 on x86, and falls back to fp32 for int8 by int8."""
    model = onnx.load(quantized / MODEL_FILE)
    types = {one.name: one.data_type for one in model.graph.initializer}
    quantizers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert len(quantizers) >= 6 * 4
    assert {types[node.input[2]] for node in quantizers} == {onnx.TensorProto.UINT8}


def test_unsigned_activations_are_the_same_numbers() -> None:
    """Against int8, over values within and beyond the range, in onnxruntime itself."""
    values = np.linspace(-9.0, 9.0, 1001, dtype=np.float32)
    outputs = []
    for convert in (False, True):
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
        ]
        ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"]) for name in "xy"]
        constants = {"scale": np.float32(0.05), "zero": np.int8(-17)}
        weights = [onnx.numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
        graph = helper.make_graph(nodes, "pair", ends[:1], ends[1:], weights)
        if convert:
            quantize.make_activations_unsigned(graph)
            assert sorted(one.name for one in graph.initializer) == ["q_unsigned_zero_point", "scale"]
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.checker.check_model(model)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        outputs.append(session.run(None, {"x": values})[0])
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert len(set(outputs[0].tolist())) == 256


def test_contract_of_the_graph_is_kept(exported: Path, quantized: Path) -> None:
    """Same inputs, output and dynamic axes; nothing of this machine in the file."""
    before, after = (onnx.load(folder / MODEL_FILE).graph for folder in (exported, quantized))
    assert [one.name for one in after.input] == [one.name for one in before.input]
    assert [one.name for one in after.output] == ["sentence_embedding"]
    for one, other in zip(before.input, after.input, strict=True):
        assert one.type == other.type
    assert b"site-packages" not in (quantized / MODEL_FILE).read_bytes()


def test_weights_in_a_file_of_their_own_are_quantized_too(
    text_spec: EncoderSpec,
    exported: Path,
    quantized: Path,
    feeds: dict[str, NDArray[np.int64]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A model over 2 GB: here a small one with its weights outside. What it becomes fits into one file again.

    Nothing is printed on the way: NNCF's progress bars would end up in the command's JSON.
    """
    model = onnx.load(exported / MODEL_FILE)
    external_data_helper.convert_model_to_external_data(model, location=WEIGHTS_FILE, size_threshold=1024)
    onnx.save(model, tmp_path / MODEL_FILE)
    shutil.copy(exported / "tokenizer.json", tmp_path)
    assert (tmp_path / WEIGHTS_FILE).is_file()
    quantize_int8(tmp_path, calibration_feeds(text_spec, tmp_path / "tokenizer.json", FEW_ROWS))
    assert not (tmp_path / WEIGHTS_FILE).exists()
    given, expected = (vectors_of(folder, "onnxruntime", "int8", feeds) for folder in (tmp_path, quantized))
    np.testing.assert_allclose(given, expected, atol=1e-6)
    assert capfd.readouterr().out == ""


def test_missing_nncf_is_said(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that mends it."""
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ExportError, match=r"int8 needs NNCF, which cannot be imported .* run: pip install nncf=="):
        quantize.quantize_int8(exported, [])
