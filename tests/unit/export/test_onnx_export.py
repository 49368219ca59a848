"""The written graph."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest

from export import onnx_export
from export.build import BuildRequest
from export.encoder import build_encoder
from export.onnx_export import MODEL_FILE, WEIGHTS_FILE, check_graph, export_onnx, save_graph
from export.repository import EncoderFolder
from export.source import Checkpoint, sha256_of


def test_export_is_the_same_bytes_again(
    small_candidate: tuple[EncoderFolder, BuildRequest, Checkpoint], tmp_path: Path
) -> None:
    """Digests identify a model, so the same weights give the same file."""
    folder, request, checkpoint = small_candidate
    candidate = folder.candidate()
    assert candidate is not None
    export_onnx(build_encoder(request.spec, checkpoint)[0], request.spec, tmp_path)
    assert sha256_of(tmp_path / MODEL_FILE) == sha256_of(candidate.folder / MODEL_FILE)


@pytest.mark.parametrize(("most", "files"), [(4_000, {MODEL_FILE}), (3_999, {MODEL_FILE, WEIGHTS_FILE})])
def test_weights_over_the_limit_lie_beside_the_graph(
    most: int, files: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """protobuf takes no message of 2 GiB; what is written names no source file."""
    monkeypatch.setattr(onnx_export, "EMBEDDED_BYTES", most)
    rows, out = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1000]) for name in ("rows", "out"))
    weights = onnx.numpy_helper.from_array(np.ones(1000, np.float32), "weights")
    node = onnx.helper.make_node("Add", ["rows", "weights"], ["out"], doc_string="/home/somebody/model.py")
    graph = onnx.helper.make_graph([node], "graph", [rows], [out], [weights])
    opsets = [onnx.helper.make_opsetid("", onnx_export.DEFAULT_OPSET)]
    save_graph(onnx_ir.from_proto(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == files
    assert b"somebody" not in (tmp_path / MODEL_FILE).read_bytes()
    check_graph(tmp_path / MODEL_FILE)
    loaded = onnx.load(tmp_path / MODEL_FILE)
    assert np.array_equal(onnx.numpy_helper.to_array(loaded.graph.initializer[0]), np.ones(1000, np.float32))
