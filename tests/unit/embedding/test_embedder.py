"""Both encoders' vectors become one, whose cosine is the mean of theirs."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from gateway.embedding import embedder as embedder_module
from gateway.embedding.embedder import Embedder, QueryVector
from gateway.embedding.space import Encoder, InputType, Space
from gateway.embedding.triton import Priority
from gateway.errors import BadVector, TextTooLong, TritonUnavailable


def unit_rows(count: int, dimension: int, seed: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class StubTriton:
    """Answers with the vectors that it was given. A test double: it runs no model.

    Attributes:
        vectors: By role, as many rows as are asked for.
        errors: By role, the rows that are called unusable.
        failure: Raised by the text encoder; the code encoder then hangs.
        down: Roles of the encoders that are unavailable.
        failing_once: Roles of those that are so for one call.
        slow: Role of the encoder that answers after the other.
    """

    def __init__(self) -> None:
        self.vectors = {"code": unit_rows(3, 1536, 1), "text": unit_rows(3, 1024, 2)}
        self.errors: dict[str, dict[int, BadVector]] = {"code": {}, "text": {}}
        self.failure: Exception | None = None
        self.down: set[str] = set()
        self.failing_once: set[str] = set()
        self.slow = ""
        self.cancelled = False
        self.calls: list[tuple[str, list[list[int]], InputType]] = []

    async def encode(
        self,
        encoder: Encoder,
        rows: Sequence[NDArray[np.int64]],
        input_type: InputType,
        *,
        priority: Priority,
        timeout_s: float,
    ) -> Any:
        self.calls.append((encoder.role, [row.tolist() for row in rows], input_type))
        if encoder.role in self.down or encoder.role in self.failing_once:
            self.failing_once.discard(encoder.role)
            raise TritonUnavailable(f"{encoder.name} is down")
        if self.failure and encoder.role == "text":
            raise self.failure
        if self.failure:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        if encoder.role == self.slow:
            await asyncio.sleep(0.01)
        return self.vectors[encoder.role][: len(rows)], self.errors[encoder.role]


@pytest.fixture
def triton() -> StubTriton:
    return StubTriton()


@pytest.fixture
def embedder(space: Space, triton: StubTriton) -> Embedder:
    return Embedder(space, triton)  # type: ignore[arg-type]  # a stub


async def embed(embedder: Embedder, texts: list[str]) -> Any:
    return await embedder.encode(
        await embedder.tokenize(texts, InputType.PASSAGE), priority=Priority.BULK, timeout_s=5.0
    )


async def test_a_text_that_comes_again_is_encoded_once(embedder: Embedder, triton: StubTriton) -> None:
    """By both encoders, or by one of them; each of its places has its vector, or its error."""
    texts = ["one", "one two", "one", "one two three", "one two", "one"]
    triton.errors["text"] = {1: BadVector("bad")}
    vectors = await embed(embedder, texts)
    assert [len(rows) for _, rows, _ in triton.calls] == [3, 3]
    assert sorted(vectors.errors) == [1, 4]
    alone = await embed(embedder, ["one", "one two", "one two three"])
    assert np.array_equal(vectors.vectors_BV, alone.vectors_BV[[0, 1, 0, 2, 1, 0]])
    triton.calls.clear()
    triton.errors["code"] = {2: BadVector("bad")}
    half = embedder.half("code")
    tokenized = await half.tokenize(texts, InputType.PASSAGE)
    vectors = await half.embed(tokenized, priority=Priority.BULK, timeout_s=5.0)
    assert [len(rows) for _, rows, _ in triton.calls] == [3]
    assert sorted(vectors.errors) == [3]
    np.testing.assert_allclose(vectors.vectors_BV, triton.vectors["code"][[0, 1, 0, 2, 1, 0]], atol=1e-6)


async def test_who_answered_last_is_asked_first_the_next_time(embedder: Embedder, triton: StubTriton) -> None:
    """And the halves are in their places, whoever was first."""
    seen = []
    for triton.slow in ("code", "text", "code"):
        await embed(embedder, ["one"])
        triton.calls.clear()
        seen.append((await embed(embedder, ["one"])).vectors_BV)
        assert triton.calls[0][0] == triton.slow
    assert np.array_equal(seen[0], seen[1]) and np.array_equal(seen[0], seen[2])


async def test_a_vector_is_both_parts_side_by_side(embedder: Embedder, triton: StubTriton) -> None:
    """v = normalize([√½·code ; √½·text]), worked out in float64."""
    vectors = await embed(embedder, ["a", "b", "c"])
    joined = np.hstack([np.sqrt(0.5) * triton.vectors[role].astype(np.float64) for role in ("code", "text")])
    expected = joined / np.linalg.norm(joined, axis=1, keepdims=True)
    assert vectors.vectors_BV.dtype == np.float32
    assert vectors.errors == {}
    np.testing.assert_allclose(vectors.vectors_BV, expected, rtol=0, atol=1e-6)


async def test_a_vector_has_norm_one_though_its_parts_have_not_quite(embedder: Embedder, triton: StubTriton) -> None:
    """Parts within the tolerance of the encoders are normalized again."""
    triton.vectors["code"] = triton.vectors["code"] * np.float32(1.009)
    vectors = await embed(embedder, ["a", "b", "c"])
    np.testing.assert_allclose(np.linalg.norm(vectors.vectors_BV, axis=1), 1.0, rtol=0, atol=1e-5)


async def test_the_cosine_is_the_mean_of_both_cosines(embedder: Embedder, triton: StubTriton) -> None:
    """Both encoders count the same."""
    vectors_BV = (await embed(embedder, ["a", "b", "c"])).vectors_BV
    code_BC, text_BT = triton.vectors["code"], triton.vectors["text"]
    expected_BB = (code_BC @ code_BC.T + text_BT @ text_BT.T) / 2
    np.testing.assert_allclose(vectors_BV @ vectors_BV.T, expected_BB, rtol=0, atol=1e-5)


async def embed_query(embedder: Embedder, query: str, **options: Any) -> QueryVector:
    return await embedder.embed_query(await embedder.tokenize([query], InputType.QUERY), timeout_s=5.0, **options)


async def test_each_encoder_gets_its_own_tokens(embedder: Embedder, triton: StubTriton) -> None:
    """The code encoder's end token and the text encoder's prompt do not mix."""
    await embedder.encode(await embedder.tokenize(["a"], InputType.QUERY), priority=Priority.BULK, timeout_s=5.0)
    assert sorted(triton.calls, key=lambda call: call[0]) == [
        ("code", [[3, 8]], InputType.QUERY),
        ("text", [[1, 6, 7, 3, 2]], InputType.QUERY),
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
async def test_bad_rows_of_both_encoders_are_named(embedder: Embedder, triton: StubTriton, value: float) -> None:
    """A row that either encoder spoils is an error, and the rest are vectors."""
    triton.vectors["code"][0] = value
    triton.vectors["text"][2] = value
    code_error, text_error = BadVector("code"), BadVector("text")
    triton.errors = {"code": {0: code_error}, "text": {2: text_error}}
    vectors = await embed(embedder, ["a", "b", "c"])
    assert vectors.errors == {0: code_error, 2: text_error}
    assert np.linalg.norm(vectors.vectors_BV[1]) == pytest.approx(1.0, abs=1e-5)


async def test_the_failure_of_one_encoder_cancels_the_other(embedder: Embedder, triton: StubTriton) -> None:
    """Half a vector is of no use: the other encoder's work is dropped."""
    triton.failure = TritonUnavailable("Triton is down")
    with pytest.raises(TritonUnavailable) as caught:
        async with asyncio.timeout(10.0):
            await embed(embedder, ["a"])
    assert caught.value is triton.failure
    assert triton.cancelled


async def test_a_text_that_one_encoder_cannot_read_is_too_long(embedder: Embedder) -> None:
    """Seven words fit the code encoder with its one special token, not the text encoder with its two."""
    tokenized = await embedder.tokenize(["a", "a a a a a a a"], InputType.PASSAGE)
    assert embedder.excess(tokenized, 0, "texts[0]") is None
    error = embedder.excess(tokenized, 1, "texts[1]")
    assert isinstance(error, TextTooLong)
    assert str(error) == (
        "texts[1]: 9 tokens, but encoder tiny-text reads at most 8 tokens; split the text or set truncate"
    )
    assert [tokenized.is_truncated(index) for index in (0, 1)] == [False, True]


async def test_selected_texts_keep_both_encoders_rows_together(embedder: Embedder) -> None:
    """The order is that of the indices."""
    tokenized = (await embedder.tokenize(["a", "b", "c"], InputType.PASSAGE)).select([2, 0])
    assert [row.ids_T.tolist() for row in tokenized.code] == [[5, 8], [3, 8]]
    assert [row.ids_T.tolist() for row in tokenized.text] == [[1, 5, 2], [1, 3, 2]]


async def test_a_query_is_one_vector(embedder: Embedder) -> None:
    """It has the dimension of the space, and was not cut."""
    query = await embed_query(embedder, "a")
    assert query.vector_V.shape == (2560,)
    assert query.scale == pytest.approx(1, abs=1e-5)
    assert (query.truncated, query.missing_encoder) == (False, "")


async def test_code_as_a_query_is_read_as_a_passage(embedder: Embedder, triton: StubTriton) -> None:
    """It is compared with code, and prompts of questions would only disturb."""
    code = await embedder.tokenize_query("a", field="code", truncate=False, input_type=InputType.PASSAGE)
    await embedder.embed_query(code, timeout_s=5.0)
    assert {input_type for _, _, input_type in triton.calls} == {InputType.PASSAGE}


async def test_a_blended_query_weighs_the_cosines_of_both_encoders(embedder: Embedder, triton: StubTriton) -> None:
    """Against stored vectors that are as they always are, worked out from the encoders' own vectors."""
    stored_BV = (await embed(embedder, ["a", "b", "c"])).vectors_BV
    query = await embed_query(embedder, "a", blend=0.8)
    code_BC, text_BT = triton.vectors["code"], triton.vectors["text"]
    expected = 0.8 * code_BC @ code_BC[0] + 0.2 * text_BT @ text_BT[0]
    np.testing.assert_allclose(query.scale * (stored_BV @ query.vector_V), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("down", "live"), [("code", "text"), ("text", "code")])
async def test_with_one_encoder_down_the_score_is_the_cosine_of_the_other(
    embedder: Embedder, triton: StubTriton, down: str, live: str
) -> None:
    """Only for who asked for it, and the missing encoder is named."""
    stored_BV = (await embed(embedder, ["a", "b", "c"])).vectors_BV
    triton.down = {down}
    with pytest.raises(TritonUnavailable):
        await embed_query(embedder, "a")
    query = await embed_query(embedder, "a", allow_degraded=True, blend=0.3)
    assert query.missing_encoder == f"tiny-{down}"
    expected = triton.vectors[live] @ triton.vectors[live][0]
    np.testing.assert_allclose(query.scale * (stored_BV @ query.vector_V), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("failing", ["code", "text"])
async def test_an_encoder_that_failed_once_is_not_missing(embedder: Embedder, triton: StubTriton, failing: str) -> None:
    """By the time that one of them is asked alone both may answer: the vector is whole, and nobody is named as down."""
    whole = await embed_query(embedder, "a")
    triton.failing_once = {failing}
    query = await embed_query(embedder, "a", allow_degraded=True)
    assert (query.missing_encoder, triton.failing_once) == ("", set())
    np.testing.assert_allclose(query.vector_V, whole.vector_V, rtol=0, atol=1e-6)


async def test_an_encoder_that_answers_nonsense_is_as_good_as_down(embedder: Embedder, triton: StubTriton) -> None:
    triton.errors["text"] = {0: BadVector("norm 0.0")}
    query = await embed_query(embedder, "a", allow_degraded=True)
    assert query.missing_encoder == "tiny-text"


async def test_with_both_encoders_down_there_is_no_query(embedder: Embedder, triton: StubTriton) -> None:
    triton.down = {"code", "text"}
    with pytest.raises(TritonUnavailable):
        await embed_query(embedder, "a", allow_degraded=True)


async def test_a_long_query_is_refused_by_its_field(embedder: Embedder) -> None:
    """The message names it."""
    with pytest.raises(TextTooLong, match=r"^query: 9 tokens"):
        await embedder.tokenize_query("a a a a a", field="query", truncate=False)


async def test_a_long_query_is_cut_where_that_was_asked(embedder: Embedder) -> None:
    """The caller is told."""
    tokenized = await embedder.tokenize_query("a a a a a", field="query", truncate=True)
    assert (await embedder.embed_query(tokenized, timeout_s=5.0)).truncated


async def test_a_query_without_a_usable_vector_is_an_error(embedder: Embedder, triton: StubTriton) -> None:
    """The very error of the encoder is raised."""
    triton.errors["text"] = {0: BadVector("norm 0.0")}
    with pytest.raises(BadVector, match=r"^norm 0\.0$"):
        await embed_query(embedder, "a")


NASTY = [
    "",
    "plain text",
    "\x00\x07\t\r\n ",
    "naïve",
    "한국어",
    "\u1f82\u0390\u0130",
    "\ufdfa" * 5,
    "😀👩‍👩‍👧",
    "\U0001d160",
    "ﬃ²",
]


@pytest.mark.parametrize("normalizer", [normalizers.NFKC(), normalizers.NFKD(), normalizers.BertNormalizer()])
@pytest.mark.parametrize("text", NASTY)
def test_a_text_that_is_short_enough_by_its_bytes_has_no_more_tokens(text: str, normalizer: Any) -> None:
    """By a tokenizer that has a token for each byte, and none for two, after all that normalization makes of them."""
    alphabet = {byte: number for number, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert len(tokenizer.encode(text).ids) <= embedder_module._most_tokens(text)


def test_a_text_that_may_exceed_a_limit_is_one_that_may(embedder: Embedder) -> None:
    """The encoders read 8 tokens, and eight more are what may stand around a text."""
    assert embedder.may_exceed("a")
    limits = {"max_tokens": 100}
    embedder.space = replace(
        embedder.space, code=replace(embedder.space.code, **limits), text=replace(embedder.space.text, **limits)
    )
    assert not embedder.may_exceed("a" * 92)
    assert embedder.may_exceed("a" * 93)
