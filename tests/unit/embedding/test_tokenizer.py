"""Texts become the ids that the encoder was made for, cut at its limit.

The ids of the tiny vocabulary: [UNK] 0, [CLS] 1, [SEP] 2, a 3, b 4, c 5, query 6, ":" 7, <eos> 8; the limit is 8.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as HubTokenizer

from gateway.embedding.space import InputType, Space
from gateway.embedding.tokenizer import Tokenizer, Tokens
from gateway.errors import StartupError


async def one(tokenizer: Tokenizer, text: str, input_type: InputType = InputType.PASSAGE) -> Tokens:
    (tokens,) = await tokenizer.tokenize([text], input_type)
    return tokens


@pytest.fixture
def bert(space: Space) -> Tokenizer:
    """`[CLS] text [SEP]`."""
    return Tokenizer(space.text)


@pytest.fixture
def qwen(space: Space) -> Tokenizer:
    """`text <eos>`, the last token appended by the spec."""
    return Tokenizer(space.code)


async def test_special_tokens_stand_around_a_text(bert: Tokenizer) -> None:
    """The ids are those worked out by hand, without padding, as int64."""
    tokens = await one(bert, "a b zebra")
    assert tokens.ids_T.tolist() == [1, 3, 4, 0, 2]
    assert tokens.ids_T.dtype == np.int64
    assert tokens.excess is None


async def test_the_appended_token_closes_a_text(qwen: Tokenizer) -> None:
    """An encoder that pools the last token gets the token that it was trained on."""
    assert (await one(qwen, "a b c")).ids_T.tolist() == [3, 4, 5, 8]


async def test_the_prompt_of_a_query_comes_first(bert: Tokenizer) -> None:
    """The query's prompt stands between the opening token and the text."""
    assert (await one(bert, "a", InputType.QUERY)).ids_T.tolist() == [1, 6, 7, 3, 2]


async def test_an_empty_text_has_its_special_tokens(bert: Tokenizer, qwen: Tokenizer) -> None:
    """No row is ever empty."""
    assert (await one(bert, "")).ids_T.tolist() == [1, 2]
    assert (await one(qwen, "")).ids_T.tolist() == [8]


async def test_texts_keep_their_order_and_lengths(bert: Tokenizer) -> None:
    """A batch is neither sorted nor padded."""
    rows = await bert.tokenize(["a b c", "", "b"], InputType.PASSAGE)
    assert [row.ids_T.tolist() for row in rows] == [[1, 3, 4, 5, 2], [1, 2], [1, 4, 2]]


async def test_a_text_of_the_limit_is_not_cut(bert: Tokenizer) -> None:
    """Eight tokens of eight are no excess."""
    tokens = await one(bert, "a b c a b c")
    assert tokens.ids_T.tolist() == [1, 3, 4, 5, 3, 4, 5, 2]
    assert tokens.excess is None


async def test_a_cut_text_keeps_its_closing_token(bert: Tokenizer) -> None:
    """The middle is cut, `[SEP]` stays, and the excess counts every token."""
    tokens = await one(bert, "a b c a b c a b")
    assert tokens.ids_T.tolist() == [1, 3, 4, 5, 3, 4, 5, 2]
    assert tokens.excess == "10 tokens"


async def test_a_cut_text_keeps_its_appended_token(qwen: Tokenizer) -> None:
    """The appended token stands last, whatever was cut."""
    tokens = await one(qwen, "a b c a b c a b")
    assert tokens.ids_T.tolist() == [3, 4, 5, 3, 4, 5, 3, 8]
    assert tokens.excess == "9 tokens"


async def test_a_cut_text_keeps_both_closing_tokens(space: Space) -> None:
    """Where the tokenizer closes and the spec appends, both stay in their order."""
    tokenizer = Tokenizer(replace(space.text, append_eos="<eos>"))
    assert (await one(tokenizer, "a b c a b c a b")).ids_T.tolist() == [1, 3, 4, 5, 3, 4, 2, 8]


async def test_the_prompt_counts_as_tokens(bert: Tokenizer) -> None:
    """A query of the limit is too long behind its prompt, which is kept."""
    tokens = await one(bert, "a b c a b c", InputType.QUERY)
    assert tokens.ids_T.tolist() == [1, 6, 7, 3, 4, 5, 3, 2]
    assert tokens.excess == "10 tokens"


async def test_a_huge_text_is_counted_in_characters(bert: Tokenizer) -> None:
    """Beyond 64 characters a token of the limit, a text is not tokenized to its end."""
    tokens = await one(bert, "a " * 500_000)
    assert tokens.ids_T.tolist() == [1, 3, 3, 3, 3, 3, 3, 2]
    assert tokens.excess == "1000000 characters"


async def test_a_huge_text_of_few_tokens_is_too_long_as_well(bert: Tokenizer) -> None:
    """One word of 513 characters was not read to its end, though its tokens fit."""
    tokens = await one(bert, "z" * 513)
    assert tokens.ids_T.tolist() == [1, 0, 2]
    assert tokens.excess == "513 characters"


@pytest.mark.parametrize("content", [None, "", "{}", "not JSON"])
def test_an_unreadable_tokenizer_is_named(space: Space, content: str | None) -> None:
    """The message has the path."""
    path = space.text.tokenizer_path
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(StartupError) as caught:
        Tokenizer(space.text)
    assert str(caught.value).startswith(f"unreadable tokenizer {path}: ")


def test_a_tokenizer_without_the_appended_token_is_refused(space: Space) -> None:
    """The message has the path and the token."""
    with pytest.raises(StartupError) as caught:
        Tokenizer(replace(space.code, append_eos="<|im_end|>"))
    assert str(caught.value) == f"{space.code.tokenizer_path}: no token '<|im_end|>', which the spec appends"


def word_piece() -> HubTokenizer:
    """As BERT cuts."""
    tokenizer = HubTokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    return tokenizer


def byte_level() -> HubTokenizer:
    """As Qwen2 cuts: punctuation keeps the line ends behind it, words the blank before them."""
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    pattern = words + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer = HubTokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def sentence_piece() -> HubTokenizer:
    """As XLM-RoBERTa cuts."""
    tokenizer = HubTokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    return tokenizer


@pytest.mark.parametrize("make", [word_piece, byte_level, sentence_piece])
async def test_of_a_long_text_the_beginning_alone_has_the_ids_of_the_whole(
    space: Space, make: Callable[[], HubTokenizer]
) -> None:
    """For each way of cutting words, on real code of all lengths: the ids are those of the whole text, cut."""
    sources = [path.read_text(encoding="utf-8") for path in sorted(Path(json.__file__).parent.glob("*.py"))]
    hub = make()
    trainer: Any = {
        word_piece: trainers.WordPieceTrainer(vocab_size=2000, special_tokens=["[UNK]"]),
        byte_level: trainers.BpeTrainer(vocab_size=2000),
        sentence_piece: trainers.UnigramTrainer(vocab_size=2000, unk_token="<unk>", special_tokens=["<unk>"]),
    }[make]
    hub.train_from_iterator(sources, trainer)
    path = space.text.tokenizer_path
    hub.save(str(path))
    limit = 64
    encoder = replace(space.text, max_tokens=limit, prompts=dict.fromkeys(InputType, ""))
    # Indented by so much that the beginning has about as many tokens as the limit.
    texts = [
        source[start:].replace("\n", "\n" + " " * pad)
        for source in sources
        for start in range(0, 2000, 211)
        for pad in range(0, 200, 8)
    ]
    rows = await Tokenizer(encoder).tokenize(texts, InputType.PASSAGE)
    begun = 0
    for text, row in zip(texts, rows, strict=True):
        whole = hub.encode(text).ids
        assert row.ids_T.tolist() == whole[:limit]
        assert (row.excess is None) == (len(whole) <= limit)
        begun += row.excess is not None and row.excess.endswith("characters")
    assert len(texts) / 4 < begun < len(texts)


async def test_a_long_text_of_few_tokens_is_read_beyond_its_beginning(bert: Tokenizer) -> None:
    """Eight tokens at most and 64 characters at first, nearly all of them blanks."""
    tokens = await one(bert, "a b" + " " * 100 + "c a")
    assert tokens.ids_T.tolist() == [1, 3, 4, 5, 3, 2]
    assert tokens.excess is None


async def test_many_texts_are_tokenized_in_slices(bert: Tokenizer) -> None:
    """The order stays."""
    texts = ["a b c"[: 1 + 2 * (number % 3)] for number in range(40_000)]
    rows = await bert.tokenize(texts, InputType.PASSAGE)
    assert [len(row.ids_T) for row in rows] == [3 + number % 3 for number in range(40_000)]
