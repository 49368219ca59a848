"""Rows of the gate: tokenized as the gateway does it, of the lengths, tasks and batches that they claim."""

import asyncio
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from export.errors import ExportError
from export.gate.rows import PublishedTokenizer, RowMaker, pad
from export.gate.samples import CALIBRATION_MODULES, MODULES, PAIR_MODULES, all_pairs, real_functions, retrieval_pairs
from export.quantize import calibration_feeds
from export.source import Checkpoint, open_checkpoint
from export.spec import EncoderSpec, load_builtin
from gateway.embedding.space import Encoder, InputType
from gateway.embedding.tokenizer import Tokenizer

QODO = load_builtin("qodo-embed-1-1.5b")
JINA = load_builtin("jina-embeddings-v3")


def served(spec: EncoderSpec, tokenizer_path: Path, max_tokens: int) -> Encoder:
    """The encoder as the gateway would read it from a manifest."""
    return Encoder(
        name=spec.name,
        version=1,
        role=spec.role,
        dimension=spec.dimension,
        max_tokens=max_tokens,
        append_eos=spec.append_eos,
        prompts={InputType.QUERY: spec.query.prompt, InputType.PASSAGE: spec.passage.prompt},
        task_ids={},
        max_batch_size=64,
        length_buckets=(),
        token_budget=0,
        instances=1,
        names_rows=False,
        folder=tokenizer_path.parent,
        identity={},
    )


@pytest.mark.parametrize("append_eos", [None, "<|endoftext|>"])
@pytest.mark.parametrize("limit", [4, 40, 2048])
def test_ids_are_those_of_the_gateway(
    qwen2_folder: Path, jina_folder: Path, append_eos: str | None, limit: int
) -> None:
    """With and without EOS, cut and whole, with closing special tokens and without."""
    texts = ["a", "def add(a, b):\n    return a + b\n", *real_functions()[:8]]
    qodo = dataclasses.replace(QODO, append_eos=append_eos)
    for spec, folder in ((qodo, qwen2_folder), (JINA, jina_folder)):
        path = folder / "tokenizer.json"
        published = PublishedTokenizer(path, spec)
        encoder = served(spec, path, limit)
        tokens = asyncio.run(Tokenizer(encoder).tokenize(texts, InputType.PASSAGE))
        prompt = spec.passage.prompt
        assert [published.ids(prompt + text, limit) for text in texts] == [tuple(one.ids_T.tolist()) for one in tokens]


def test_a_row_has_exactly_the_length_that_was_asked_for(text_spec: EncoderSpec, checkpoint: Checkpoint) -> None:
    """From the shortest possible to the encoder's limit, always real code."""
    tokenizer = PublishedTokenizer(checkpoint.tokenizer_path, text_spec)
    maker = RowMaker(text_spec, tokenizer)
    for length in (tokenizer.shortest, 16, 100, 511, 512):
        row = maker.row(length, 5)
        assert len(row.ids) == length
        assert row.ids[0] == 101 and row.ids[-1] == 102
        assert row.task == 1


def test_batches_cover_every_bucket_length_and_task(jina_folder: Path) -> None:
    """One full row alone and a batch of mixed lengths a bucket; every task in every batch; none above the setting."""
    spec = dataclasses.replace(JINA, max_tokens=700)
    checkpoint = open_checkpoint(spec, jina_folder)
    maker = RowMaker(spec, PublishedTokenizer(checkpoint.tokenizer_path, spec))
    batches = maker.batches(2048)
    assert [batch.length for batch in batches[::2]] == [16, 32, 64, 128, 256, 512, 700]
    assert [len(batch.rows) for batch in batches] == [1, 32, 1, 32, 1, 32, 1, 32, 1, 16, 1, 8, 1, 5]
    for alone, mixed in zip(batches[::2], batches[1::2], strict=True):
        assert [len(row.ids) for row in alone.rows] == [alone.length]
        lengths = [len(row.ids) for row in mixed.rows]
        assert lengths[0] == mixed.length and lengths[-1] == 3
        assert len(set(lengths)) >= 5
        assert {row.task for row in mixed.rows} == {0, 1, 2, 3, 4}
    assert max(batch.length for batch in maker.batches(128)) == 128
    assert max(len(batch.rows) for batch in maker.batches(128, largest_batch=4)) == 4


def test_padding_is_on_the_right_and_masked(text_spec: EncoderSpec, checkpoint: Checkpoint) -> None:
    """What the graph is given: ids, then zeros; ones, then zeros; a task a row."""
    maker = RowMaker(text_spec, PublishedTokenizer(checkpoint.tokenizer_path, text_spec))
    rows = (maker.row(7, 0), maker.row(4, 1))
    feeds = pad(rows, 9, has_tasks=True)
    assert feeds["input_ids"][0].tolist() == [*rows[0].ids, 0, 0]
    assert feeds["attention_mask"].tolist() == [[1] * 7 + [0] * 2, [1] * 4 + [0] * 5]
    assert feeds["task_id"].tolist() == [[0], [1]]
    assert "task_id" not in pad(rows, 9, has_tasks=False)


def test_pairs_are_docstrings_and_the_functions_without_them() -> None:
    """The answer must not stand in the searched text word for word, and no two queries are the same."""
    pairs = retrieval_pairs(200)
    assert len({pair.query for pair in pairs}) == 200
    for pair in pairs:
        assert len(pair.query.split()) >= 4
        assert pair.query not in " ".join(pair.code.split())
        assert "def " in pair.code
    named = next(pair for pair in all_pairs() if pair.name == "heapq.merge")
    assert named.query == "Merge multiple sorted inputs into a single sorted output."
    assert '"""' not in named.code and "h_append = h.append" in named.code
    with pytest.raises(ExportError, match="asked for 1000000 retrieval pairs, this Python's library has"):
        retrieval_pairs(1_000_000)


def test_calibration_sees_nothing_that_is_measured(text_spec: EncoderSpec, checkpoint: Checkpoint) -> None:
    """Other modules, and rows of every length up to its limit, in both tasks."""
    assert not {*MODULES, *PAIR_MODULES} & {*CALIBRATION_MODULES}
    assert not {*MODULES} & {*PAIR_MODULES}
    feeds = calibration_feeds(text_spec, checkpoint.tokenizer_path, 30)
    lengths = [feed["input_ids"].shape[1] for feed in feeds]
    assert len(feeds) == 30 and min(lengths) == 3 and 200 < max(lengths) <= 256
    assert {int(feed["task_id"][0, 0]) for feed in feeds} == {0, 1}
    assert np.concatenate([feed["attention_mask"].ravel() for feed in feeds]).min() == 1
