"""The written graph."""

from pathlib import Path

from export.adapters import Adapters
from export.encoder import Encoder
from export.onnx_export import MODEL_FILE, export_onnx
from export.source import sha256_of
from export.spec import EncoderSpec


def test_export_is_the_same_bytes_again(
    built: tuple[Encoder, Adapters], text_spec: EncoderSpec, exported: Path, tmp_path: Path
) -> None:
    """Digests identify a model, so the same weights give the same file."""
    export_onnx(built[0], text_spec, tmp_path)
    assert sha256_of(tmp_path / MODEL_FILE) == sha256_of(exported / MODEL_FILE)
