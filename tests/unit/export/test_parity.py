"""The gate: a right graph passes in numbers, a wrong one is refused and nothing is published."""

import dataclasses
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from torch import Tensor

from export import parity
from export.adapters import Adapters
from export.checkpoint import Checkpoint, sha256_of
from export.encoder import Encoder
from export.errors import ExportError
from export.onnx_export import export_onnx
from export.publish import publish_encoder
from export.spec import EncoderSpec
from export.triton_config import Serving

FEW_SHAPES = ((1, 2), (1, 24), (4, 64), (2, 512))
ONNXRUNTIME = Serving("onnxruntime", "f32", 2)


@pytest.fixture(autouse=True)
def few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer shapes and neighbours than a real export checks, for speed."""
    monkeypatch.setattr(parity, "SHAPES", FEW_SHAPES)
    monkeypatch.setattr(parity, "NEIGHBOURS", 7)


def test_untrained_encoder_agrees_with_sentence_transformers(
    text_spec: EncoderSpec, checkpoint: Checkpoint, built: tuple[Encoder, Adapters], exported: Path
) -> None:
    """Both runtimes at f32: the vectors are the base's behind the head."""
    report = parity.check_parity(
        text_spec,
        checkpoint,
        built[1],
        exported / "model.onnx",
        exported / "tokenizer.json",
        Serving("openvino", "f32", 2),
    )
    assert [(one["runtime"], one["precision"]) for one in report["runtimes"]] == [
        ("onnxruntime", "f32"),
        ("openvino", "f32"),
    ]
    for one in report["runtimes"]:
        assert [(shape["batch"], shape["length"]) for shape in one["shapes"]] == list(FEW_SHAPES)
        assert one["min_cosine"] > 0.99999
        assert one["max_abs_difference"] < 1e-5
        assert one["max_batch_distance"] < 1e-6


def test_adapters_that_the_graph_lacks_are_noticed(
    text_spec: EncoderSpec, checkpoint: Checkpoint, random_adapters: Adapters, exported: Path
) -> None:
    """The reference merges the adapters by itself, so a graph without them fails at its first shape."""
    model, tokenizer = exported / "model.onnx", exported / "tokenizer.json"
    with pytest.raises(ExportError, match=r"compact-text in onnxruntime f32 differs .* at batch 1, length 2: cosine"):
        parity.check_parity(text_spec, checkpoint, random_adapters, model, tokenizer, ONNXRUNTIME)


def test_wrong_pooling_publishes_nothing(
    text_spec: EncoderSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First-token pooling is refused by the whole command's path, and the repository stays empty."""

    def first_token(self: Encoder, hidden_BSH: Tensor, attention_mask: Tensor) -> Tensor:
        return hidden_BSH[:, 0]

    monkeypatch.setattr(Encoder, "pool", first_token)
    with pytest.raises(ExportError, match=r"differs from .* at batch 1, length 2.*nothing published"):
        publish_encoder(text_spec, tmp_path, ONNXRUNTIME)
    assert list((tmp_path / text_spec.name).iterdir()) == []


def test_vector_that_depends_on_its_neighbours_is_refused(
    text_spec: EncoderSpec, checkpoint: Checkpoint, built: tuple[Encoder, Adapters], exported: Path
) -> None:
    """A limit of nothing shows that the batch check runs, and what it says."""
    strict = dataclasses.replace(parity.TOLERANCES["f32"], max_batch_distance=-1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(parity.TOLERANCES, "f32", strict)
        with pytest.raises(ExportError, match="cosine distance among 7 other rows"):
            parity.check_parity(
                text_spec,
                checkpoint,
                built[1],
                exported / "model.onnx",
                exported / "tokenizer.json",
                ONNXRUNTIME,
            )


def test_published_tokenizer_neither_cuts_nor_pads(exported: Path) -> None:
    """The base's file cuts at 128; cutting is the gateway's to do, and to report."""
    tokenizer = Tokenizer.from_file(str(exported / "tokenizer.json"))
    assert tokenizer.truncation is None and tokenizer.padding is None
    assert len(tokenizer.encode("x " * 600).ids) == 602
    assert len(tokenizer.encode("x").ids) == 3


def test_export_is_the_same_bytes_again(
    built: tuple[Encoder, Adapters], text_spec: EncoderSpec, exported: Path, tmp_path: Path
) -> None:
    """Digests identify a model, so the same weights give the same file."""
    export_onnx(built[0], text_spec, tmp_path / "again.onnx")
    assert sha256_of(tmp_path / "again.onnx") == sha256_of(exported / "model.onnx")
