"""A text is embedded once, whoever sends it how often, and what is there costs a look-up."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gateway.embedding.meter import TokenMeter
from gateway.embedding.vectors import Vectors
from gateway.errors import BadVector, NotFound, TextTooLong, TritonUnavailable
from gateway.rpc import chunk_indexing, quotas
from gateway.rpc.admission import Admission
from gateway.rpc.chunk_indexing import ChunkIndexer, Indexed, Item
from gateway.store.access import Quota
from gateway.store.rows import ChunkRow, ExistingChunks

LIMIT = 20
"""Characters that the encoders read; a token each."""


class Texts(list[str]):
    @property
    def token_count(self) -> int:
        return sum(len(text) for text in self)

    def select(self, indices: Sequence[int]) -> "Texts":
        return Texts(self[index] for index in indices)

    def is_truncated(self, index: int) -> bool:
        return len(self[index]) > LIMIT


class Embedder:
    """A test double: it runs no model.

    Attributes:
        tokenized, encoded: The texts that it was asked for, call by call.
        failures: What the next calls of `encode` raise, one each, when the gate is open.
    """

    def __init__(self) -> None:
        self.tokenized: list[list[str]] = []
        self.encoded: list[list[str]] = []
        self.failures: list[Exception] = []
        self.bad: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()

    async def tokenize(self, texts: Sequence[str], input_type: Any) -> Texts:
        self.tokenized.append(list(texts))
        return Texts(texts)

    def may_exceed(self, passage: str) -> bool:
        return len(passage) > LIMIT

    def excess(self, tokenized: Texts, index: int, field: str) -> TextTooLong | None:
        return TextTooLong(field, "too long") if tokenized.is_truncated(index) else None

    async def encode(self, tokenized: Texts, **options: Any) -> Vectors:
        self.encoded.append(list(tokenized))
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        errors = {row: BadVector("NaN") for row, text in enumerate(tokenized) if text in self.bad}
        return Vectors(np.zeros((len(tokenized), 1), dtype=np.float32), errors)


class Store:
    """Chunks of one codebase, by path, and the texts that have a vector. A test double."""

    def __init__(self) -> None:
        self.chunks: dict[str, bytes] = {}
        self.forgets = False
        self.deleted = False

    async def find_existing(self, codebase_key: int, space_key: int, rows: Sequence[ChunkRow], **_: Any) -> Any:
        await asyncio.sleep(0)
        if self.deleted:
            raise NotFound("the codebase is being deleted")
        unchanged = {index: index for index, row in enumerate(rows) if self.chunks.get(row.path) == row.text_sha256}
        texts = {row.text_sha256 for row in rows} & set(self.chunks.values())
        return ExistingChunks(unchanged, frozenset(texts))

    async def insert(self, codebase_key: int, space_key: int, rows: Sequence[ChunkRow], *_: Any, **__: Any) -> Any:
        await asyncio.sleep(0)
        self.chunks |= {row.path: row.text_sha256 for row in rows}
        return list(range(len(rows)))

    async def insert_reused(self, codebase_key: int, space_key: int, rows: Sequence[ChunkRow], **_: Any) -> Any:
        await asyncio.sleep(0)
        if rows and self.forgets:
            self.forgets = False
            self.chunks.clear()
        known = set(self.chunks.values())
        self.chunks |= {row.path: row.text_sha256 for row in rows if row.text_sha256 in known}
        return [1 if row.text_sha256 in known else None for row in rows]


class Quotas:
    """Counts what is charged."""

    def __init__(self) -> None:
        self.charged: list[int] = []

    @asynccontextmanager
    async def wait(self, count: int) -> AsyncIterator[bool]:
        if count:
            self.charged.append(count)
        yield False


class Serving:
    """One space, for ever."""

    def __init__(self, embedder: Embedder) -> None:
        self.active = SimpleNamespace(space_key=7, embedder=embedder, mismatch=lambda relied_on: None)

    async def call(self, work: Any) -> Any:
        return await work(self.active)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        yield


class Parts:
    """An indexer with what it works on."""

    def __init__(self, *, timeout_s: float = 30.0) -> None:
        self.embedder, self.store, self.quotas = Embedder(), Store(), Quotas()
        beside = SimpleNamespace(fill=self._fill)
        self.indexer = ChunkIndexer(
            Serving(self.embedder),  # type: ignore[arg-type]
            self.store,  # type: ignore[arg-type]
            beside,  # type: ignore[arg-type]
            Admission(TokenMeter(), max_pending_tokens=1000, max_streams=1),
            self.quotas,  # type: ignore[arg-type]
            timeout_s=timeout_s,
        )

    async def _fill(self, chunks: Any, *, timeout_s: float) -> None:
        await asyncio.sleep(0)

    async def index(self, **texts: str) -> list[str]:
        """Index a batch of chunks; what became of each, by the name of its disposition or error."""
        outcomes = await self.indexer.index(1, [item(path, text) for path, text in texts.items()])
        return [
            outcome.stored.disposition if isinstance(outcome, Indexed) else type(outcome).__name__
            for outcome in outcomes
        ]

    def start(self, **texts: str) -> "asyncio.Task[list[str]]":
        return asyncio.create_task(self.index(**texts))

    async def until_encoding(self, count: int = 1) -> None:
        """The encoders were asked so often, and whoever waits for that does so by now."""
        while len(self.embedder.encoded) < count:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    parts = Parts()
    yield parts
    assert len(parts.indexer._in_work) == 0
    assert parts.indexer._admission.bulk_tokens == 0


def item(path: str, text: str, *, truncate: bool = False) -> Item:
    digest = hashlib.sha256(text.encode()).digest()
    row = ChunkRow(path, "", "", "", 1, 1, text, digest, bytes(32), 0, 1)
    return Item(path, row, text, truncate, "")


async def test_of_batches_with_the_same_text_one_embeds_it(parts: Parts) -> None:
    """Four batches of a stream are in work at once, of parallel streams more."""
    parts.embedder.gate.clear()
    batches = [parts.start(**{f"{name}1": "same", f"{name}2": "same", name: f"own {name}"}) for name in "abcd"]
    await parts.until_encoding(4)
    parts.embedder.gate.set()
    outcomes = await asyncio.gather(*batches)
    assert sorted(text for texts in parts.embedder.encoded for text in texts) == [
        *(f"own {name}" for name in "abcd"),
        "same",
    ]
    assert outcomes == [["EMBEDDED"] * 3] + [["REUSED", "REUSED", "EMBEDDED"]] * 3
    assert sum(parts.quotas.charged) == len("same") + 4 * len("own a")


async def test_batches_that_wait_for_each_other_go_on(parts: Parts) -> None:
    """Each has what the next one needs, and the last what the first does."""
    parts.embedder.gate.clear()
    first = parts.start(a="one", b="two")
    await parts.until_encoding(1)
    second = parts.start(c="two", d="three")
    await parts.until_encoding(2)
    third = parts.start(e="three", f="one", g="four")
    await parts.until_encoding(3)
    parts.embedder.gate.set()
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(first, second, third)
    assert outcomes == [["EMBEDDED", "EMBEDDED"], ["REUSED", "EMBEDDED"], ["REUSED", "REUSED", "EMBEDDED"]]


async def test_what_fails_in_one_batch_is_embedded_by_another(parts: Parts) -> None:
    """A failure is that of the batch that had it."""
    parts.embedder.gate.clear()
    parts.embedder.failures = [TritonUnavailable("down")]
    first = parts.start(a="same")
    await parts.until_encoding()
    others = [parts.start(**{name: "same"}) for name in "bc"]
    await parts.until_encoding()
    parts.embedder.gate.set()
    assert await asyncio.gather(first, *others) == [["TritonUnavailable"], ["EMBEDDED"], ["REUSED"]]
    assert parts.embedder.encoded == [["same"]] * 2


async def test_what_is_given_up_in_one_batch_is_embedded_by_another(parts: Parts) -> None:
    """Its caller has gone."""
    parts.embedder.gate.clear()
    first = parts.start(a="same")
    await parts.until_encoding()
    second = parts.start(b="same")
    await parts.until_encoding()
    first.cancel()
    await parts.until_encoding(2)
    parts.embedder.gate.set()
    assert await second == ["EMBEDDED"]


async def test_a_text_that_is_in_work_for_too_long_is_not_waited_for() -> None:
    """Its batch may wait for its principal's quota for minutes."""
    parts = Parts(timeout_s=0.05)

    @asynccontextmanager
    async def wait(count: int) -> AsyncIterator[bool]:
        await asyncio.Event().wait()
        yield True

    proper, parts.quotas.wait = parts.quotas.wait, wait  # type: ignore[method-assign]
    first = parts.start(a="same")
    for _ in range(20):
        await asyncio.sleep(0)
    parts.quotas.wait = proper  # type: ignore[method-assign]
    async with asyncio.timeout(10):
        assert await parts.index(b="same", c="other") == ["EMBEDDED", "EMBEDDED"]
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_nobody_waits_for_what_another_principal_has_in_work(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose quota is another."""
    principal: ContextVar[int] = ContextVar("principal")
    monkeypatch.setattr(chunk_indexing, "current_principal_key", principal.get)
    parts.embedder.gate.clear()
    batches = []
    for number, name in enumerate("aabb"):
        principal.set(number // 2)
        batches.append(parts.start(**{f"{name}{number}": "same"}))
    await parts.until_encoding(2)
    assert parts.embedder.encoded == [["same"]] * 2
    parts.embedder.gate.set()
    assert sorted(await asyncio.gather(*batches)) == [["EMBEDDED"]] * 2 + [["REUSED"]] * 2


async def test_an_unchanged_chunk_costs_a_look_up(parts: Parts) -> None:
    """And one whose text has a vector little more: neither is tokenized, nor counts against a quota."""
    await parts.index(a="text")
    parts.embedder.tokenized.clear()
    parts.quotas.charged.clear()
    assert await parts.index(a="text", b="text") == ["UNCHANGED", "REUSED"]
    assert (parts.embedder.tokenized, parts.quotas.charged) == ([], [])
    assert await parts.index(a="text", c="new") == ["UNCHANGED", "EMBEDDED"]
    assert (parts.embedder.tokenized, parts.quotas.charged) == ([["new"]], [3])


async def test_what_is_not_embedded_costs_no_tokens(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Triton is away, the client sends the batch again and again; the quota would be spent when it is back."""
    monkeypatch.setattr(quotas, "current_principal_key", lambda: 1)
    parts.indexer._quotas = quotas.Quotas(Quota(tokens_per_minute=10))
    parts.embedder.failures = [TritonUnavailable("Triton is away") for _ in range(3)]
    async with asyncio.timeout(10):
        for _ in range(3):
            assert await parts.index(a="ten tokens") == ["TritonUnavailable"]
        assert await parts.index(a="ten tokens") == ["EMBEDDED"]


async def test_of_a_long_text_that_is_there_it_is_told_that_it_is_cut(parts: Parts) -> None:
    """As when it was embedded; only where truncation is asked for, or it is an error as then."""
    long = "x" * (LIMIT + 1)
    for _ in range(2):
        [outcome] = await parts.indexer.index(1, [item("a", long, truncate=True)])
        assert isinstance(outcome, Indexed)
        assert outcome.truncated
    assert outcome.stored.disposition == "UNCHANGED"
    assert parts.quotas.charged == [len(long)]
    assert await parts.index(a=long, b=long) == ["TextTooLong", "TextTooLong"]


async def test_a_text_whose_vector_is_deleted_meanwhile_is_embedded(parts: Parts) -> None:
    await parts.index(a="text")
    parts.store.forgets = True
    assert await parts.index(b="text") == ["EMBEDDED"]
    assert parts.embedder.encoded == [["text"]] * 2


async def test_a_bad_vector_is_that_of_its_text(parts: Parts) -> None:
    parts.embedder.bad = {"bad"}
    assert await parts.index(a="bad", b="good", c="bad") == ["BadVector", "EMBEDDED", "BadVector"]


async def test_a_codebase_that_is_deleted_ends_the_stream(parts: Parts) -> None:
    parts.store.deleted = True
    with pytest.raises(NotFound):
        await parts.index(a="text")
