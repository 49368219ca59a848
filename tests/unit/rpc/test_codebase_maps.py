"""Maps are drawn one at a time, and one that nobody waits for any more does not stop the next."""

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from pgvector import HalfVector

from gateway.errors import Overloaded
from gateway.rpc.codebase_map import MAX_WAITING, CodebaseMaps
from gateway.store.codebase_map import CodebaseSample, SampledChunk

COUNT = 400


class StubStore:
    """Gives one sample, and knows how many asked at once."""

    def __init__(self) -> None:
        vectors = np.random.default_rng(0).standard_normal((COUNT, 2560))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        chunks = [SampledChunk(n, f"{n}.py", "python", "", "text", 1, 2) for n in range(COUNT)]
        self.drawn = CodebaseSample(chunks, [HalfVector(vector) for vector in vectors], 5 * COUNT)
        self.asked = asyncio.Event()
        self.count = 0

    async def sample(self, codebase_key: int, space_key: int, limit: int, *, timeout_s: float) -> CodebaseSample:
        self.count += 1
        self.asked.set()
        return self.drawn


@dataclass
class StubSpace:
    space_key: int = 1
    fingerprint: str = "f" * 64


async def test_the_next_map_waits_for_one_that_was_given_up() -> None:
    store = StubStore()
    maps: Any = CodebaseMaps(store)  # type: ignore[arg-type]
    given_up = asyncio.create_task(maps.draw(1, StubSpace(), COUNT, timeout_s=5))
    await store.asked.wait()
    waiting = asyncio.create_task(maps.draw(1, StubSpace(), COUNT, timeout_s=5))
    await asyncio.sleep(0)
    assert store.count == 1
    given_up.cancel()
    response = await waiting
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert [point.path for point in response.points] == [f"{n}.py" for n in range(COUNT)]
    assert {len(point.neighbor_indices) for point in response.points} == {8}
    assert (response.chunk_count, response.space) == (5 * COUNT, "f" * 64)
    assert 0 < response.explained_variance < 1


async def test_those_who_wait_are_bounded() -> None:
    maps: Any = CodebaseMaps(StubStore())  # type: ignore[arg-type]
    drawn = [asyncio.create_task(maps.draw(1, StubSpace(), COUNT, timeout_s=5)) for _ in range(MAX_WAITING + 1)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as caught:
        await maps.draw(1, StubSpace(), COUNT, timeout_s=5)
    # One of them is done by then.
    assert caught.value.retry_after_s == 1.0
    await asyncio.gather(*drawn)
    assert len((await maps.draw(1, StubSpace(), COUNT, timeout_s=5)).points) == COUNT
