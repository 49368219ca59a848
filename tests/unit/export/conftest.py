"""Encoders built once for the whole session: the compact text encoder, the full pair's with few layers, a small one."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from small_checkpoint import NAME, write_checkpoint, write_spec
from tiny_models import make_jina, make_qwen2

from export.adapters import Adapters, LayerAdapter
from export.build import BuildRequest, build
from export.encoder import Encoder, build_encoder
from export.onnx_export import export_onnx
from export.repository import EncoderFolder
from export.serving import Precision, Runtime, Serving
from export.source import Checkpoint, open_checkpoint, write_tokenizer
from export.spec import EncoderSpec, Words, load_builtin, load_spec


@pytest.fixture(scope="session")
def text_spec() -> EncoderSpec:
    """The compact text encoder, as it was before its adapters were trained, with words as the code encoder has them."""
    return dataclasses.replace(load_builtin("compact-text").untrained, words=Words(share=0.4, seed=11))


@pytest.fixture(scope="session")
def checkpoint(text_spec: EncoderSpec) -> Checkpoint:
    """Its verified base."""
    return open_checkpoint(text_spec)


@pytest.fixture(scope="session")
def built(text_spec: EncoderSpec, checkpoint: Checkpoint) -> tuple[Encoder, Adapters]:
    """The untrained encoder and its adapters."""
    return build_encoder(text_spec, checkpoint)


@pytest.fixture(scope="session")
def random_adapters(built: tuple[Encoder, Adapters]) -> Adapters:
    """Adapters whose B is not zero, so that every task moves the vectors its own way; words weigh something."""
    rng = np.random.default_rng(7)
    layers = {
        path: LayerAdapter(adapter.A_TRI, rng.normal(0, 0.02, adapter.B_TOR.shape).astype(np.float32))
        for path, adapter in built[1].layers.items()
    }
    assert built[1].words is not None
    words = rng.random(len(built[1].words)).astype(np.float32)
    return Adapters(built[1].head, layers, built[1].scale, words)


@pytest.fixture(scope="session")
def exported(
    built: tuple[Encoder, Adapters],
    text_spec: EncoderSpec,
    checkpoint: Checkpoint,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with model.onnx and tokenizer.json."""
    folder = tmp_path_factory.mktemp("exported")
    export_onnx(built[0], text_spec, folder)
    write_tokenizer(checkpoint, folder / "tokenizer.json")
    return folder


@pytest.fixture(scope="session")
def qwen2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of Qodo's architecture with two layers."""
    return make_qwen2(tmp_path_factory.mktemp("qwen2"))


@pytest.fixture(scope="session")
def jina_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of Jina's architecture with two layers and five task adapters."""
    return make_jina(tmp_path_factory.mktemp("jina"), load_builtin("jina-embeddings-v3"))


@pytest.fixture(scope="session")
def small_candidate(tmp_path_factory: pytest.TempPathFactory) -> tuple[EncoderFolder, BuildRequest, Checkpoint]:
    """A candidate of the small checkpoint, fp32 on onnxruntime, whose graph costs half as much to trace.

    Who changes a file of it puts it back.
    """
    root = tmp_path_factory.mktemp("small")
    spec = load_spec(write_spec(root / "small.toml"))
    checkpoint = open_checkpoint(spec, write_checkpoint(root / "checkpoint", seed=1))
    folder = EncoderFolder(root, NAME)
    request = BuildRequest(spec, Serving(Runtime.ONNXRUNTIME, Precision.FP32, 1), 18)
    with folder.building():
        build(folder, request, checkpoint)
    return folder, request, checkpoint
