"""How fast the re-embedding goes, on a clock that the test turns, and what it draws for its verifications."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import groupby, islice
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.spaces import reembedding
from gateway.spaces.filling import FillOutcome
from gateway.spaces.reembedding import BATCH_SIZE, Reembedder


class Service:
    """A clock that only sleeping moves, and chunks that lack a vector in a space. A test double: it runs no model."""

    def __init__(self, rate: float | None, end_s: float) -> None:
        self.now, self.end = 1000.0, 1000.0 + end_s
        self.row = SimpleNamespace(filling=True, state="BUILDING", fill_rate=rate, verification={})
        self.pending: list[SimpleNamespace] = []
        self.arrivals: list[float] = []
        self.filled: list[tuple[float, int]] = []
        self.seeds: list[int] = []
        self.on_fill: Callable[[], None] = lambda: None
        self.count = 0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, delay_s: float) -> None:
        self.now += max(delay_s, 0.0)
        if self.now >= self.end:
            raise asyncio.CancelledError
        while self.arrivals and self.arrivals[0] <= self.now:
            self.arrivals.pop(0)
            self.add(1)

    def add(self, count: int) -> None:
        self.pending += [SimpleNamespace(chunk_id=self.count + number) for number in range(1, count + 1)]
        self.count += count

    async def find_pending(self, space_key: int, after: int, limit: int, *, timeout_s: float) -> list[SimpleNamespace]:
        return list(islice((chunk for chunk in self.pending if chunk.chunk_id > after), limit))

    async def fill(self, vectors: Any, space: Any, chunks: Sequence[Any], **options: Any) -> FillOutcome:
        self.filled.append((self.now, len(chunks)))
        last = chunks[-1].chunk_id
        self.pending = [chunk for chunk in self.pending if chunk.chunk_id > last]
        self.on_fill()
        return FillOutcome(0, 0, {})

    async def verify(self, *others: Any, seed: int, timeout_s: float) -> Any:
        self.seeds.append(seed)
        return SimpleNamespace(pending_chunk_count=0, faults=[], notices=[], to_json=lambda: {"passed": True})

    async def get(self, space_key: int) -> Any:
        return self.row

    async def set_verification(self, space_key: int, report: Any) -> None:
        # Somebody asks for another one at once, three times in all.
        self.row.verification = None if len(self.seeds) < 3 else report

    async def note_fill_error(self, space_key: int, error: str) -> None:
        assert error == ""

    async def build_hnsw_index(self, space_key: int) -> bool:
        return False

    @asynccontextmanager
    async def fill_lock(self, space_key: int, *, timeout_s: float) -> AsyncIterator[bool]:
        yield True

    async def run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Run the re-embedding until the clock is at the end."""
        monkeypatch.setattr(reembedding, "time", self)
        monkeypatch.setattr(reembedding, "asyncio", self)
        for name in ("fill", "verify"):
            monkeypatch.setattr(reembedding, name, getattr(self, name))
        monkeypatch.setattr(reembedding, "SpaceVectorStore", lambda database: self)
        space: Any = SimpleNamespace(space_key=2, fingerprint="b" * 64)
        store: Any = self
        with pytest.raises(asyncio.CancelledError):
            await Reembedder(None, store, SimpleNamespace(filled=[space], active=None)).run()  # type: ignore[arg-type]


def most_over_the_rate(filled: Sequence[tuple[float, int]], rate: float) -> float:
    """By how many chunks more than `rate` allows were begun from any moment on before any later one."""
    over, least, done = 0.0, float("inf"), 0
    for at, entries in groupby(filled, key=lambda entry: entry[0]):
        least = min(least, done - rate * at)
        over = max(over, done - rate * at - least)
        done += sum(count for _, count in entries)
    return over


def most_at_once(filled: Sequence[tuple[float, int]]) -> int:
    """How many chunks were begun at one moment."""
    return max(sum(count for _, count in entries) for _, entries in groupby(filled, key=lambda entry: entry[0]))


@pytest.mark.parametrize("rate", [0.4, 3.0, 100.0])
async def test_chunks_are_begun_no_faster_than_the_rate(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over slices, and where chunks come one by one after the last was filled. And not much slower either."""
    service = Service(rate, end_s=150.0)
    service.add(int(rate * 80))
    service.arrivals = [service.now + 90.0 + number / 4 for number in range(200)]
    await service.run(monkeypatch)
    assert most_over_the_rate(service.filled, rate) <= 1e-6
    assert most_at_once(service.filled) <= max(1.0, rate)
    assert sum(count for at, count in service.filled if at <= 1080.0) >= 0.9 * int(rate * 80)
    assert sum(count for at, count in service.filled if at > 1090.0) > 10


async def test_a_rate_is_changed_and_taken_away_while_chunks_are_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(10.0, end_s=60.0)
    service.add(2000)

    def change() -> None:
        if len(service.pending) <= 1900:
            service.row.fill_rate = 20.0 if len(service.pending) > 1500 else None

    service.on_fill = change
    await service.run(monkeypatch)
    assert service.pending == []
    slow = [entry for entry in service.filled if entry[1] == 10]
    fast = [entry for entry in service.filled if entry[1] == 20]
    assert (len(slow), len(fast)) == (10, 20)
    assert most_over_the_rate(slow, 10.0) <= 1e-6
    assert most_over_the_rate(fast, 20.0) <= 1e-6
    assert max(count for _, count in service.filled) == BATCH_SIZE


async def test_every_verification_draws_another_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one has missed, the next one would miss as well."""
    service = Service(None, end_s=60.0)
    service.row.verification = None
    await service.run(monkeypatch)
    assert len(service.seeds) == len(set(service.seeds)) == 3
