"""One forward pass for one text, and never a vector that is another's, a cancelled call's or a failed one's."""

import asyncio
import hashlib
import inspect
import random
from collections.abc import Hashable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.embedding import cache as cache_module
from gateway.embedding import write_behind
from gateway.embedding.cache import CachedEncoding
from gateway.embedding.vectors import Vectors
from gateway.errors import BadVector, DatabaseUnavailable, TritonUnavailable, Unauthenticated

OWNER: ContextVar[Hashable | None] = ContextVar("owner", default="alice")


def digest_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def vector_of(text: str, input_type: str = "query") -> NDArray[np.float32]:
    """A unit vector that no other text has."""
    seed = int.from_bytes(hashlib.sha256(f"{input_type} {text}".encode()).digest()[:8])
    vector_V = np.random.default_rng(seed).standard_normal(2560).astype(np.float32)
    return vector_V / np.linalg.norm(vector_V)


class MemoryCache:
    """A cache in a dictionary. A test double.

    Attributes:
        rows: What it holds.
        failure: Raised by both methods.
        read_gate: Reading waits for it.
        write_gate: Writing waits for it.
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[Hashable, str, bytes], NDArray[np.float32]] = {}
        self.failure: Exception | None = None
        self.read_gate, self.write_gate = asyncio.Event(), asyncio.Event()
        self.read_gate.set()
        self.write_gate.set()
        self.read_count = self.write_count = self.evicted_count = 0

    def owner(self) -> Hashable | None:
        return OWNER.get()

    async def read(
        self, input_type: str, digests: Sequence[bytes], *, timeout_s: float
    ) -> Mapping[bytes, NDArray[np.float32]]:
        self.read_count += 1
        await self._enter(self.read_gate, timeout_s)
        keys = {digest: (OWNER.get(), input_type, digest) for digest in digests}
        return {digest: self.rows[key] for digest, key in keys.items() if key in self.rows}

    async def write(self, input_type: str, vectors: Mapping[bytes, NDArray[np.float32]], *, timeout_s: float) -> None:
        self.write_count += 1
        await self._enter(self.write_gate, timeout_s)
        self.rows |= {(OWNER.get(), input_type, digest): vector_V for digest, vector_V in vectors.items()}

    async def _enter(self, gate: asyncio.Event, timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            await gate.wait()
        if self.failure:
            raise self.failure


class Encoder:
    """Counts what it embeds. A test double: it runs no model.

    Attributes:
        texts: Every text that was embedded, in order.
        bad: Texts for which it has no usable vector.
        failure: Raised by the next call.
        gate: Every call waits for it.
        cancelled_count: Calls that were cancelled while they waited.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.bad: set[str] = set()
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.cancelled_count = 0

    async def embed(self, caching: CachedEncoding, texts: Sequence[str], input_type: str = "query") -> Vectors:
        async def compute(positions: Sequence[int]) -> Vectors:
            chosen = [texts[position] for position in positions]
            self.texts += chosen
            failure, self.failure = self.failure, None
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled_count += 1
                raise
            if failure:
                raise failure
            vectors_BV = np.stack([vector_of(text, input_type) for text in chosen])
            return Vectors(vectors_BV, {i: BadVector(text) for i, text in enumerate(chosen) if text in self.bad})

        return await caching.get(input_type, [digest_of(text) for text in texts], compute)


@pytest.fixture
def cache() -> MemoryCache:
    return MemoryCache()


@pytest.fixture
def caching(cache: MemoryCache) -> CachedEncoding:
    return CachedEncoding(cache)


@pytest.fixture
def encoder() -> Encoder:
    return Encoder()


async def until_idle() -> None:
    """Every task has got as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_text_is_embedded_once_and_then_read(caching: CachedEncoding, encoder: Encoder) -> None:
    first = await encoder.embed(caching, ["a", "b", "a"])
    await caching.close()
    second = await encoder.embed(caching, ["b", "c"])
    assert encoder.texts == ["a", "b", "c"]
    assert (first.cached, second.cached) == (frozenset(), {0})
    np.testing.assert_array_equal(first.vectors_BV, [vector_of("a"), vector_of("b"), vector_of("a")])
    np.testing.assert_array_equal(second.vectors_BV, [vector_of("b"), vector_of("c")])
    counters = caching.counters
    assert (counters.hit_count, counters.miss_count, counters.shared_count) == (1, 3, 1)


async def test_a_query_is_not_the_passage_of_the_same_text(caching: CachedEncoding, encoder: Encoder) -> None:
    """Prompts and adapters differ."""
    await encoder.embed(caching, ["a"], "query")
    await caching.close()
    passage = await encoder.embed(caching, ["a"], "passage")
    assert encoder.texts == ["a", "a"]
    np.testing.assert_array_equal(passage.vectors_BV, [vector_of("a", "passage")])


async def test_two_calls_at_once_share_a_forward_pass(caching: CachedEncoding, encoder: Encoder) -> None:
    encoder.gate.clear()
    calls = [asyncio.create_task(encoder.embed(caching, texts)) for texts in (["a", "b"], ["b", "c"], ["a", "c"])]
    await until_idle()
    encoder.gate.set()
    results = await asyncio.gather(*calls)
    assert sorted(encoder.texts) == ["a", "b", "c"]
    for result, texts in zip(results, ("ab", "bc", "ac"), strict=True):
        np.testing.assert_array_equal(result.vectors_BV, [vector_of(text) for text in texts])
        assert not result.cached


async def test_a_text_that_is_being_written_is_not_embedded_again(
    caching: CachedEncoding, cache: MemoryCache, encoder: Encoder
) -> None:
    """Between the reply and the row in the table there is a moment."""
    encoder.gate.clear()
    call = asyncio.create_task(encoder.embed(caching, ["a"]))
    await until_idle()
    cache.write_gate.clear()
    encoder.gate.set()
    await call
    assert not cache.rows
    await encoder.embed(caching, ["a"])
    assert encoder.texts == ["a"]
    cache.write_gate.set()
    await caching.close()
    assert len(cache.rows) == 1


async def test_owners_share_nothing(caching: CachedEncoding, encoder: Encoder) -> None:
    """Neither rows nor a pass that is under way: another's would answer faster, and so tell that it is there."""

    async def embed_as(owner: str) -> Vectors:
        OWNER.set(owner)
        return await encoder.embed(caching, ["a"])

    encoder.gate.clear()
    calls = [asyncio.create_task(embed_as(owner)) for owner in ("alice", "bob")]
    await until_idle()
    assert encoder.texts == ["a", "a"]
    encoder.gate.set()
    await asyncio.gather(*calls)
    await caching.close()
    assert not (await asyncio.create_task(embed_as("carol"))).cached
    assert (await asyncio.create_task(embed_as("bob"))).cached
    assert encoder.texts == ["a", "a", "a"]


async def test_what_is_nobody_s_request_always_runs_the_encoders(
    caching: CachedEncoding, cache: MemoryCache, encoder: Encoder
) -> None:
    """The canary of the health check proves the encoders, not the cache."""
    OWNER.set(None)
    for _ in range(2):
        await encoder.embed(caching, ["a"])
    assert (encoder.texts, cache.read_count, cache.write_count) == (["a", "a"], 0, 0)


async def test_a_leader_that_goes_away_leaves_the_pass_to_its_followers(
    caching: CachedEncoding, cache: MemoryCache, encoder: Encoder
) -> None:
    encoder.gate.clear()
    leader = asyncio.create_task(encoder.embed(caching, ["a"]))
    await until_idle()
    follower = asyncio.create_task(encoder.embed(caching, ["a"]))
    await until_idle()
    leader.cancel()
    await until_idle()
    assert leader.cancelled()
    encoder.gate.set()
    np.testing.assert_array_equal((await follower).vectors_BV, [vector_of("a")])
    assert encoder.texts == ["a"]
    await caching.close()
    assert len(cache.rows) == 1


async def test_a_pass_that_nobody_waits_for_ends(caching: CachedEncoding, cache: MemoryCache, encoder: Encoder) -> None:
    """And who asks for its text afterwards begins another."""
    encoder.gate.clear()
    calls = [asyncio.create_task(encoder.embed(caching, ["a"])) for _ in range(2)]
    await until_idle()
    for call in calls:
        call.cancel()
    await until_idle()
    assert encoder.cancelled_count == 1
    encoder.gate.set()
    await encoder.embed(caching, ["a"])
    assert encoder.texts == ["a", "a"]


async def test_an_error_reaches_all_who_wait_and_nobody_later(
    caching: CachedEncoding, cache: MemoryCache, encoder: Encoder
) -> None:
    encoder.gate.clear()
    encoder.failure = TritonUnavailable("down")
    calls = [asyncio.create_task(encoder.embed(caching, ["a"])) for _ in range(3)]
    await until_idle()
    encoder.gate.set()
    for call in calls:
        with pytest.raises(TritonUnavailable, match="down"):
            await call
    assert cache.write_count == 0
    np.testing.assert_array_equal((await encoder.embed(caching, ["a"])).vectors_BV, [vector_of("a")])
    assert encoder.texts == ["a", "a"]


async def test_an_unusable_vector_is_not_kept(caching: CachedEncoding, cache: MemoryCache, encoder: Encoder) -> None:
    """Its batch mates are; and the same text may have a vector the next time."""
    encoder.bad = {"b"}
    vectors = await encoder.embed(caching, ["a", "b", "b"])
    assert sorted(vectors.errors) == [1, 2]
    await caching.close()
    assert [digest for _, _, digest in cache.rows] == [digest_of("a")]
    encoder.bad = set()
    vectors = await encoder.embed(caching, ["a", "b"])
    assert (vectors.errors, vectors.cached) == ({}, {0})
    np.testing.assert_array_equal(vectors.vectors_BV, [vector_of("a"), vector_of("b")])


@pytest.mark.parametrize("failure", [DatabaseUnavailable("gone"), ZeroDivisionError()])
async def test_a_cache_that_fails_fails_nobody(
    caching: CachedEncoding,
    cache: MemoryCache,
    encoder: Encoder,
    failure: Exception,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The encoders answer; it is counted and logged, and the cache is left alone for a while, and no longer."""
    cache.failure = failure
    monkeypatch.setattr(cache_module, "_PAUSE_S", 3600.0)
    for _ in range(3):
        np.testing.assert_array_equal((await encoder.embed(caching, ["a"])).vectors_BV, [vector_of("a")])
        await caching.close()
    assert encoder.texts == ["a", "a", "a"]
    assert cache.read_count == 1
    assert (caching.counters.read_failure_count, caching.counters.miss_count) == (3, 3)
    assert caching.counters.write_failure_count == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    cache.failure = None
    monkeypatch.setattr(cache_module.time, "monotonic", lambda: 1e12)
    await encoder.embed(caching, ["a"])
    await caching.close()
    assert (await encoder.embed(caching, ["a"])).cached


async def test_a_cache_that_hangs_is_not_waited_for(
    caching: CachedEncoding, cache: MemoryCache, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_READ_TIMEOUT_S", 0.01)
    cache.read_gate.clear()
    np.testing.assert_array_equal((await encoder.embed(caching, ["a"])).vectors_BV, [vector_of("a")])
    assert caching.counters.read_failure_count == 1


@pytest.mark.parametrize("damage", [np.nan, 2.0])
async def test_a_row_that_is_no_vector_is_not_answered(
    caching: CachedEncoding, cache: MemoryCache, encoder: Encoder, damage: float
) -> None:
    cache.rows["alice", "query", digest_of("a")] = vector_of("a") * np.float32(damage)
    np.testing.assert_array_equal((await encoder.embed(caching, ["a"])).vectors_BV, [vector_of("a")])
    assert caching.counters.read_failure_count == 1


async def test_vectors_that_wait_to_be_written_are_bounded(
    caching: CachedEncoding, cache: MemoryCache, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that is slow to write must not fill the memory with vectors."""
    monkeypatch.setattr(write_behind, "_MAX_WAITING_VECTORS", 32)
    monkeypatch.setattr(write_behind, "_WRITE_VECTORS", 4)
    cache.write_gate.clear()
    for number in range(20):
        await encoder.embed(caching, [f"{number} a", f"{number} b"])
    await until_idle()
    assert cache.write_count == 2
    assert caching.counters.write_failure_count == 4
    cache.write_gate.set()
    await caching.close()
    assert len(cache.rows) == 32


async def test_an_owner_s_vectors_are_written_together(
    caching: CachedEncoding, cache: MemoryCache, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody's with another's; each is one text's, a moment after its call."""
    monkeypatch.setattr(write_behind, "_LINGER_S", 60.0)

    async def embed_as(owner: str, text: str) -> None:
        OWNER.set(owner)
        await encoder.embed(caching, [text])

    for number in range(10):
        for owner in ("alice", "bob"):
            await asyncio.create_task(embed_as(owner, f"text {number}"))
    assert not cache.rows
    again = await encoder.embed(caching, ["text 3", "new"])
    assert again.cached == {0}
    assert caching.counters.hit_count == 1
    await caching.close()
    assert cache.write_count == 2
    written = {(owner, f"text {number}") for number in range(10) for owner in ("alice", "bob")} | {("alice", "new")}
    assert cache.rows.keys() == {(owner, "query", digest_of(text)) for owner, text in written}
    for owner, text in written:
        np.testing.assert_array_equal(cache.rows[owner, "query", digest_of(text)], vector_of(text))


async def test_a_revoked_key_ails_nobody_else(caching: CachedEncoding, cache: MemoryCache, encoder: Encoder) -> None:
    """A moment after its call, of which it was the key, its vectors cannot be kept; what comes later can."""
    cache.failure = Unauthenticated("revoked")
    await encoder.embed(caching, ["a"])
    await caching.close()
    cache.failure = None
    await encoder.embed(caching, ["a"])
    await caching.close()
    assert (await encoder.embed(caching, ["a"])).cached
    assert caching.counters.write_failure_count == 1


async def test_who_comes_as_a_pass_fails_begins_another(caching: CachedEncoding, encoder: Encoder) -> None:
    """It is forgotten a moment after its end, and its error is nobody's who comes in between."""
    encoder.gate.clear()
    encoder.failure = TritonUnavailable("down")
    first = asyncio.create_task(encoder.embed(caching, ["a"]))
    await until_idle()
    later: list[asyncio.Task[Vectors]] = []
    land = caching._land

    def late(landing: Any) -> None:
        later.append(asyncio.create_task(encoder.embed(caching, ["a"])))
        asyncio.get_running_loop().call_later(0.01, land, landing)

    caching._land = late  # type: ignore[method-assign]
    encoder.gate.set()
    with pytest.raises(TritonUnavailable):
        await first
    caching._land = land  # type: ignore[method-assign]
    vectors = await later[0]
    np.testing.assert_array_equal(vectors.vectors_BV, [vector_of("a")])
    assert (caching.counters.hit_count, vectors.cached) == (0, frozenset())


async def test_a_write_that_is_cancelled_before_it_begins_leaves_nothing(
    caching: CachedEncoding, cache: MemoryCache, encoder: Encoder
) -> None:
    assert caching._writer.add("alice", "query", {digest_of("a"): vector_of("a")})
    (task,) = caching._writer._tasks
    assert inspect.getcoroutinestate(task.get_coro()) == inspect.CORO_CREATED  # type: ignore[arg-type]
    task.cancel()
    await caching.close()
    assert (caching._writer._open, caching._writer._waiting) == ({}, {})
    await encoder.embed(caching, ["a"])
    await caching.close()
    assert len(cache.rows) == 1


async def test_many_vectors_are_not_waited_with(
    caching: CachedEncoding, cache: MemoryCache, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_behind, "_LINGER_S", 60.0)
    await encoder.embed(caching, [f"text {number}" for number in range(write_behind._WRITE_VECTORS)])
    await encoder.embed(caching, ["one more"])
    await until_idle()
    assert len(cache.rows) == write_behind._WRITE_VECTORS
    await caching.close()
    assert len(cache.rows) == write_behind._WRITE_VECTORS + 1


async def test_thousands_of_calls_embed_every_text_once(caching: CachedEncoding, encoder: Encoder) -> None:
    """Random calls of three owners, 50 at a time: the right vector for each text, and none embedded twice."""
    choose = random.Random(1)
    texts = [f"text {number}" for number in range(300)]
    wrong: list[str] = []
    asked: set[tuple[str, str, str]] = set()

    async def call(owner: str, chosen: list[str], input_type: str) -> None:
        OWNER.set(owner)
        asked.update((owner, text, input_type) for text in chosen)
        vectors = await encoder.embed(caching, chosen, input_type)
        expected_BV = np.stack([vector_of(text, input_type) for text in chosen])
        if not np.array_equal(vectors.vectors_BV, expected_BV) or vectors.errors:
            wrong.extend(chosen)

    for _ in range(60):
        calls = [
            asyncio.create_task(
                call(
                    choose.choice(["alice", "bob", "carol"]),
                    choose.choices(texts, k=choose.choice([1, 1, 5, 20])),
                    choose.choice(["query", "passage"]),
                )
            )
            for _ in range(50)
        ]
        await asyncio.gather(*calls)
    await caching.close()
    assert wrong == []
    counters = caching.counters
    assert counters.miss_count == len(encoder.texts) == len(asked) > 1000
    assert counters.read_failure_count == 0
