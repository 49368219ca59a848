"""Pruning removes whole layers and whole neurons, the least useful ones, and what remains still runs."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import FEED_FORWARD

from export.encoder import BuildOptions, build_encoder
from export.errors import ExportError
from export.pruning import layer_list
from export.source import Checkpoint, open_checkpoint
from export.spec import EncoderSpec, load_builtin

QODO = load_builtin("qodo-embed-1-1.5b")
JINA = load_builtin("jina-embeddings-v3")
IDS = torch.tensor([[101, 7592, 2088, 102]])
MASK = torch.ones_like(IDS)


def test_the_layer_that_changes_least_goes(text_spec: EncoderSpec, checkpoint: Checkpoint) -> None:
    """A layer made into the identity is the one that is removed, and the vectors stay."""
    whole, _ = build_encoder(text_spec, checkpoint)
    pruned, _ = build_encoder(text_spec, checkpoint, BuildOptions(drop_layers=2))
    before: list[Any] = list(layer_list(whole.transformer, "bert"))
    after: list[Any] = list(layer_list(pruned.transformer, "bert"))
    assert (len(before), len(after)) == (6, 4)
    kept = [
        next(
            index
            for index, one in enumerate(before)
            if torch.equal(one.output.dense.linear.weight, layer.output.dense.linear.weight)
        )
        for layer in after
    ]
    assert kept == sorted(kept)
    with torch.no_grad():
        task = torch.zeros((1, 1), dtype=torch.int64)
        torch.testing.assert_close(pruned(IDS, MASK, task).norm(dim=-1), torch.ones(1))


def test_identity_layer_is_found(qwen2_folder: Path, tmp_path: Path) -> None:
    """With its outgoing weights zero, the first layer adds nothing to the residual stream."""
    shutil.copytree(qwen2_folder, tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        tensors[f"layers.0.{name}.weight"].zero_()
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    checkpoint = open_checkpoint(QODO, tmp_path)
    ids = torch.arange(5, 30)[None]
    with torch.no_grad():
        whole = build_encoder(QODO, checkpoint)[0](ids, torch.ones_like(ids))
        pruned = build_encoder(QODO, checkpoint, BuildOptions(drop_layers=1))[0](ids, torch.ones_like(ids))
    torch.testing.assert_close(pruned, whole, atol=1e-6, rtol=0)


def test_neurons_that_add_nothing_go_first(qwen2_folder: Path, tmp_path: Path) -> None:
    """Half of the neurons silenced, half kept: the vectors stay."""
    shutil.copytree(qwen2_folder, tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    for layer in range(2):
        tensors[f"layers.{layer}.mlp.down_proj.weight"][:, ::2] = 0
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    checkpoint = open_checkpoint(QODO, tmp_path)
    ids = torch.arange(5, 30)[None]
    with torch.no_grad():
        whole = build_encoder(QODO, checkpoint)[0](ids, torch.ones_like(ids))
        encoder, _ = build_encoder(QODO, checkpoint, BuildOptions(ffn_width=FEED_FORWARD // 2))
        torch.testing.assert_close(encoder(ids, torch.ones_like(ids)), whole, atol=1e-5, rtol=0)
    last: Any = layer_list(encoder.transformer, "qwen2")[1]
    assert last.mlp.down_proj.weight.shape == (1536, FEED_FORWARD // 2)


def test_more_than_there_is_cannot_be_pruned(text_spec: EncoderSpec, checkpoint: Checkpoint, jina_folder: Path) -> None:
    """The limits are named; adapters per row hold on to the neurons."""
    with pytest.raises(ExportError, match="compact-text has 6 layers; --drop-layers must be 1 to 5"):
        build_encoder(text_spec, checkpoint, BuildOptions(drop_layers=6))
    code_spec = load_builtin("compact-code").untrained
    with pytest.raises(ExportError, match="feed-forward width is 1536; --ffn-width must be 1 to 1535"):
        build_encoder(code_spec, open_checkpoint(code_spec), BuildOptions(ffn_width=1536))
    with pytest.raises(ExportError, match="cannot cut layers that carry adapters per row"):
        build_encoder(JINA, open_checkpoint(JINA, jina_folder), BuildOptions(ffn_width=100))
