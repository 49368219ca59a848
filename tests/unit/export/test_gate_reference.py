"""The reference is what others compute: sentence-transformers, PEFT, transformers' own tokenizer and masks."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import PeftModel
from transformers import JinaEmbeddingsV3Model, Qwen2Config, Qwen2Model

from export.adapters import Adapters, isometric_head, save_adapters
from export.encoder import BuildOptions, build_encoder
from export.gate.reference import Reference, built_vectors
from export.gate.rows import PublishedTokenizer, Row, RowMaker
from export.gate.samples import real_functions
from export.source import Checkpoint, open_checkpoint, task_folder
from export.spec import EncoderSpec, load_builtin
from export.transformer import quiet_transformers

QODO = load_builtin("qodo-embed-1-1.5b")
JINA = load_builtin("jina-embeddings-v3")


def rows_of(spec: EncoderSpec, checkpoint: Checkpoint, lengths: list[int]) -> list[Row]:
    """Rows of real code, tasks in turn."""
    maker = RowMaker(spec, PublishedTokenizer(checkpoint.tokenizer_path, spec))
    return [maker.row(length, number) for number, length in enumerate(lengths)]


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of norm 1."""
    norms: NDArray[np.float64] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / norms


def test_untrained_encoder_is_sentence_transformers_behind_its_head(
    text_spec: EncoderSpec, checkpoint: Checkpoint
) -> None:
    """Tokenized, run and pooled by sentence-transformers on the same checkpoint; both tasks are the base."""
    from sentence_transformers import SentenceTransformer

    texts = [text for text in real_functions() if len(text) < 4000][::60]
    texts.append("x = 1\n" * 600)
    tokenizer = PublishedTokenizer(checkpoint.tokenizer_path, text_spec)
    rows = [Row(text, 512, number % 2, tokenizer.ids(text, 512)) for number, text in enumerate(texts)]
    assert {len(row.ids) for row in rows} >= {512}
    with quiet_transformers():
        model = SentenceTransformer(str(checkpoint.folder), device="cpu")
    model.max_seq_length = 512
    base = np.asarray(model.encode(texts, show_progress_bar=False), dtype=np.float64)
    expected = unit(base @ isometric_head(1024, 384, 1024).astype(np.float64).T)
    given = Reference(text_spec, checkpoint).vectors(rows)
    np.testing.assert_allclose(given, expected, atol=1e-6)


def test_trained_adapters_are_merged_task_by_task(
    text_spec: EncoderSpec, checkpoint: Checkpoint, random_adapters: Adapters, tmp_path: Path
) -> None:
    """Against the exporter's own module, which adds the low-rank product instead of merging: two ways, one vector."""
    save_adapters(random_adapters, tmp_path / "adapters.safetensors")
    trained = dataclasses.replace(checkpoint, adapters_folder=tmp_path)
    rows = rows_of(text_spec, checkpoint, [3, 20, 20, 60])
    given = Reference(text_spec, trained).vectors(rows)
    encoder, _ = build_encoder(text_spec, trained)
    for row, vector_D in zip(rows, given, strict=True):
        ids = torch.tensor([row.ids])
        with torch.inference_mode():
            expected = encoder(ids, torch.ones_like(ids), torch.tensor([[row.task]]))[0].numpy()
        np.testing.assert_allclose(vector_D, expected, atol=1e-5)
    untrained = Reference(text_spec, checkpoint).vectors(rows)
    assert float((given * untrained).sum(axis=1).max()) < 0.995


def test_peft_adapters_are_merged_by_peft(jina_folder: Path) -> None:
    """Against PEFT without merging, for each of the five tasks."""
    checkpoint = open_checkpoint(JINA, jina_folder)
    rows = rows_of(JINA, checkpoint, [30, 12, 12, 40, 5])
    given = Reference(JINA, checkpoint).vectors(rows)
    for row, vector_D in zip(rows, given, strict=True):
        with quiet_transformers(), torch.inference_mode():
            base = JinaEmbeddingsV3Model.from_pretrained(jina_folder, dtype=torch.float32, add_pooling_layer=False)
            model: Any = PeftModel.from_pretrained(base, jina_folder / task_folder(JINA.tasks[row.task])).eval()
            states = model(input_ids=torch.tensor([row.ids])).last_hidden_state[0].double().numpy()
        expected = unit(states.mean(axis=0)[None])[0]
        np.testing.assert_allclose(vector_D, expected, atol=1e-6)
    merged = Reference(JINA, checkpoint, merge_task="separation").vectors(
        [dataclasses.replace(row, task=0) for row in rows]
    )
    np.testing.assert_allclose(merged[2], given[2], atol=1e-7)
    assert float(merged[0] @ given[0]) < 0.999


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_qwen2_takes_the_last_token_under_the_spec_s_attention(qwen2_folder: Path, attention: str) -> None:
    """transformers itself, told by its own setting; the other attention is another vector."""
    spec = dataclasses.replace(QODO, attention=attention, append_eos="<|endoftext|>")
    checkpoint = open_checkpoint(spec, qwen2_folder)
    rows = rows_of(spec, checkpoint, [9, 33])
    given = Reference(spec, checkpoint).vectors(rows)
    eos = int(PublishedTokenizer(checkpoint.tokenizer_path, spec).ids("", 8)[-1])
    for causal in (True, False):
        config = Qwen2Config.from_pretrained(qwen2_folder)
        config.is_causal = causal
        with quiet_transformers(), torch.inference_mode():
            model = Qwen2Model.from_pretrained(
                qwen2_folder, config=config, dtype=torch.float32, attn_implementation="eager"
            )
            for row, vector_D in zip(rows, given, strict=True):
                assert row.ids[-1] == eos
                states = model(input_ids=torch.tensor([row.ids])).last_hidden_state[0].double().numpy()
                expected = unit(states[-1:])[0]
                if causal == (attention == "causal"):
                    np.testing.assert_allclose(vector_D, expected, atol=1e-5)
                else:
                    assert float(vector_D @ expected) < 0.999


def test_pruned_encoder_is_its_own_reference(jina_folder: Path) -> None:
    """No class of transformers has its weights; without pruning the same code is the reference, task by task."""
    checkpoint = open_checkpoint(JINA, jina_folder)
    rows = rows_of(JINA, checkpoint, [12, 12, 30, 12, 5])
    whole = Reference(JINA, checkpoint).vectors(rows)
    np.testing.assert_allclose(built_vectors(JINA, checkpoint, BuildOptions(), rows), whole, atol=1e-5)
    pruned = built_vectors(JINA, checkpoint, BuildOptions(drop_layers=1), rows)
    assert float((pruned * whole).sum(axis=1).max()) < 0.999
    np.testing.assert_allclose(np.linalg.norm(pruned, axis=1), 1.0, atol=1e-6)
