"""The written graph."""

from pathlib import Path

from export.build import BuildRequest
from export.encoder import build_encoder
from export.onnx_export import MODEL_FILE, export_onnx
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
