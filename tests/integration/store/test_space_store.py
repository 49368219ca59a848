import asyncio

import pytest
from store_samples import make_chunk, make_vectors

from gateway.errors import StartupError
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.pool import Database
from gateway.store.spaces import SpaceStore

A, B = "a" * 64, "b" * 64


async def test_the_first_space_becomes_active_and_stays_the_same(database: Database) -> None:
    spaces = SpaceStore(database)
    assert await spaces.get_active() is None
    first, again = await asyncio.gather(*(spaces.ensure_active(A, {"weight": 0.5}) for _ in range(2)))
    assert first == again == await spaces.get_active()
    assert (first.fingerprint, first.manifest, first.state) == (A, {"weight": 0.5}, "ACTIVE")


async def test_an_empty_space_gives_way_to_another_and_may_come_back(database: Database) -> None:
    spaces = SpaceStore(database)
    first = await spaces.ensure_active(A, {})
    second = await spaces.ensure_active(B, {})
    assert second.space_key != first.space_key
    assert await spaces.ensure_active(A, {}) == first


async def test_a_space_with_vectors_does_not_give_way(
    database: Database, codebases: CodebaseStore, chunks: ChunkStore, codebase_key: int
) -> None:
    spaces = SpaceStore(database)
    space = await spaces.ensure_active(A, {})
    await chunks.insert(codebase_key, space.space_key, [make_chunk(1)], make_vectors(1), timeout_s=5)
    with pytest.raises(StartupError, match=f"{A}.*{B}"):
        await spaces.ensure_active(B, {})
    assert await spaces.get_active() == space
    await codebases.delete("demo", timeout_s=5)
    assert (await spaces.ensure_active(B, {})).fingerprint == B
