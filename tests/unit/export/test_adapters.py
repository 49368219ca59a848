"""The head keeps cosines, and trained weights come back as they were saved."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from export.adapters import Adapters, isometric_head, load_adapters, save_adapters
from export.encoder import Encoder
from export.errors import ExportError
from export.spec import EncoderSpec

VOCABULARY = 30522


def shapes_of(adapters: Adapters) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of the adapted layers."""
    return {path: (one.B_TOR.shape[1], one.A_TRI.shape[2]) for path, one in adapters.layers.items()}


@pytest.mark.parametrize("dimension", [1024, 1536])
def test_isometric_head_preserves_cosines(dimension: int) -> None:
    """Cosines of random vectors agree before and after to float32 rounding."""
    head_DH = isometric_head(dimension, 384, seed=3)
    vectors_BH = np.random.default_rng(1).standard_normal((20, 384))
    before_BB = vectors_BH @ vectors_BH.T
    mapped_BD = vectors_BH @ head_DH.T.astype(np.float64)
    np.testing.assert_allclose(mapped_BD @ mapped_BD.T, before_BB, atol=2e-4)
    np.testing.assert_allclose(head_DH.T @ head_DH, np.eye(384), atol=1e-6)


def test_head_follows_its_seed() -> None:
    """The same seed gives the same head, another seed another."""
    assert np.array_equal(isometric_head(1024, 384, seed=3), isometric_head(1024, 384, seed=3))
    assert not np.allclose(isometric_head(1024, 384, seed=3), isometric_head(1024, 384, seed=4))


def test_adapters_survive_being_saved(random_adapters: Adapters, text_spec: EncoderSpec, tmp_path: Path) -> None:
    """What training writes is what the export reads."""
    path = tmp_path / "adapters.safetensors"
    save_adapters(random_adapters, path)
    loaded = load_adapters(path, text_spec, shapes_of(random_adapters), VOCABULARY)
    assert loaded.head is not None
    assert random_adapters.head is not None
    assert np.array_equal(loaded.head, random_adapters.head)
    assert loaded.words is not None and np.array_equal(loaded.words, random_adapters.words)
    assert loaded.layers.keys() == random_adapters.layers.keys()
    for layer, adapter in random_adapters.layers.items():
        assert np.array_equal(loaded.layers[layer].A_TRI, adapter.A_TRI)
        assert np.array_equal(loaded.layers[layer].B_TOR, adapter.B_TOR)


def test_adapters_of_another_shape_are_refused(
    random_adapters: Adapters, text_spec: EncoderSpec, tmp_path: Path
) -> None:
    """A missing layer, another rank and a NaN are each named."""
    path = tmp_path / "adapters.safetensors"
    shapes = shapes_of(random_adapters)
    save_adapters(random_adapters, path)
    assert text_spec.lora is not None
    assert random_adapters.head is not None
    lora = dataclasses.replace(text_spec.lora, rank=4)
    with pytest.raises(ExportError, match=r"lora\..*\.A is float32 \(2, 8, 384\), compact-text needs float32 \(2, 4"):
        load_adapters(path, dataclasses.replace(text_spec, lora=lora), shapes, VOCABULARY)
    with pytest.raises(ExportError, match=r"tensor lora\.pooler\.dense\.A is missing for compact-text"):
        load_adapters(path, text_spec, {**shapes, "pooler.dense": (384, 384)}, VOCABULARY)
    with pytest.raises(ExportError, match=r"words\.weight is float32 \(30522,\), compact-text needs float32 \(100,\)"):
        load_adapters(path, text_spec, shapes, 100)
    head_DH = random_adapters.head.copy()
    head_DH[0, 0] = np.nan
    save_adapters(dataclasses.replace(random_adapters, head=head_DH), path)
    with pytest.raises(ExportError, match=r"head\.weight holds a value that is not finite"):
        load_adapters(path, text_spec, shapes, VOCABULARY)


def test_untrained_adapters_change_nothing(built: tuple[Encoder, Adapters]) -> None:
    """B starts at zero."""
    assert len(built[1].layers) == 36  # six linear layers in each of six blocks
    assert all(not adapter.B_TOR.any() for adapter in built[1].layers.values())
