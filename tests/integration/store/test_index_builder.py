"""The task that builds HNSW indexes beside the service."""

import asyncio
import logging
from typing import Any

import pytest
from store_samples import make_chunk, make_vectors

from gateway.spaces import index_builder
from gateway.spaces.index_builder import IndexBuilder
from gateway.spaces.serving import ServedSpace, Serving
from gateway.store import spaces as spaces_module
from gateway.store.chunks import ChunkStore
from gateway.store.pool import Database
from gateway.store.rows import SpaceRow
from gateway.store.spaces import SpaceStore
from gateway.store.word_counts import WordCounts


async def test_it_outlives_an_error_of_the_database(
    database: Database, space: SpaceRow, caplog: pytest.LogCaptureFixture
) -> None:
    """Dead, it would say so only at the shutdown, and no index would ever be built again."""
    spaces = SpaceStore(database)
    active = ServedSpace(space.space_key, None)  # type: ignore[arg-type]
    builder = IndexBuilder(spaces, WordCounts(database), Serving(spaces, None, active))  # type: ignore[arg-type]
    async with database.acquire(5) as connection:
        await connection.execute("ALTER TABLE embeddings RENAME TO gone")
    with caplog.at_level(logging.WARNING, logger="gateway.spaces.index_builder"):
        task = asyncio.create_task(builder.run())
        while not task.done() and not caplog.records:
            await asyncio.sleep(0.01)
    assert not task.done()
    [record] = caplog.records
    assert 'relation "embeddings" does not exist' in str(record.exc_info)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_it_tries_again_what_failed_and_what_another_gateway_was_about(
    database: Database,
    space: SpaceRow,
    chunks: ChunkStore,
    codebase_key: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Else every search would compare every vector until somebody indexes again, or a process restarts."""
    monkeypatch.setattr(index_builder, "_LOOK_S", 0.01)
    monkeypatch.setattr(index_builder, "_AGAIN_S", 0.02)
    await chunks.insert(codebase_key, space.space_key, [make_chunk(1)], make_vectors(1), timeout_s=5)
    found: list[bool | None] = []

    class Eager(SpaceStore):
        async def build_hnsw_index(self, space_key: int, **options: Any) -> bool | None:
            found.append(await super().build_hnsw_index(space_key, above_chunk_count=-1))
            return found[-1]

    spaces = Eager(database)
    serving = Serving(spaces, None, ServedSpace(space.space_key, None))  # type: ignore[arg-type]
    monkeypatch.setattr(ServedSpace, "fingerprint", "a" * 64)
    async with database.acquire(30, autocommit=True) as other:
        assert await other.fetchval(spaces_module._QUERIES["try_lock_hnsw_build"], space.space_key)
        await other.execute("ALTER TABLE embeddings RENAME TO gone")
        task = asyncio.create_task(IndexBuilder(spaces, WordCounts(database), serving).run())
        async with asyncio.timeout(60):
            while not caplog.records:
                await asyncio.sleep(0.01)
            await other.execute("ALTER TABLE gone RENAME TO embeddings")
            while None not in found:
                await asyncio.sleep(0.01)
            await other.fetchval(spaces_module._QUERIES["unlock_hnsw_build"], space.space_key)
            while True not in found:
                await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert set(found[:-1]) == {None}
    assert found[-1] is True


async def test_it_looks_when_another_space_is_activated(
    database: Database, space: SpaceRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That one may have outgrown exact search while nobody indexed it: each search would compare every vector."""
    monkeypatch.setattr(index_builder, "_LOOK_S", 0.01)
    looked: list[int] = []

    class Watched(SpaceStore):
        async def build_hnsw_index(self, space_key: int, **options: Any) -> bool | None:
            looked.append(space_key)
            return await super().build_hnsw_index(space_key, **options)

    spaces = Watched(database)
    serving = Serving(spaces, None, ServedSpace(space.space_key, None))  # type: ignore[arg-type]
    task = asyncio.create_task(IndexBuilder(spaces, WordCounts(database), serving).run())
    other = await spaces.build("b" * 64, {}, timeout_s=5)
    async with asyncio.timeout(30):
        while not looked:
            await asyncio.sleep(0.01)
        serving._active = ServedSpace(other.space_key, None)  # type: ignore[arg-type]
        while other.space_key not in looked:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert looked == [space.space_key, other.space_key]


async def test_an_index_is_built_in_as_much_memory_as_its_vectors_take(
    database: Database, space: SpaceRow, chunks: ChunkStore, codebase_key: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And in no more than is allowed; the next user of the connection has what the server is set to."""
    await chunks.insert(codebase_key, space.space_key, [make_chunk(1)], make_vectors(1), timeout_s=5)
    queries = spaces_module._QUERIES
    allow = queries["allow_memory"]

    async with database.acquire(5, autocommit=True) as connection:
        before = await connection.fetchval("SHOW maintenance_work_mem")
        assert await connection.fetchval(allow, 700) == "700MB"
        assert await connection.fetchval("SHOW maintenance_work_mem") == "700MB"
        assert await connection.fetchval(allow, 1) is None
    async with database.acquire(5) as connection:
        assert await connection.fetchval("SHOW maintenance_work_mem") == before

    for bytes_a_vector, expected_mb in ((600 * 2**20, 600), (5000 * 2**20, 1024)):
        monkeypatch.setattr(spaces_module, "_INDEX_BYTES", {"hnsw": bytes_a_vector, "binary": 0})
        # Fails on any other number, by a division by zero.
        checked = f"{allow} AND 1 / (CASE WHEN $1::integer = {expected_mb} THEN 1 ELSE 0 END) = 1"
        monkeypatch.setattr(spaces_module, "_QUERIES", {**queries, "allow_memory": checked})
        spaces = SpaceStore(database, index_memory_mb=1024, binary_above_count=10**6)
        assert await spaces.build_hnsw_index(space.space_key, above_chunk_count=-1)
        async with database.acquire(5, autocommit=True) as connection:
            await connection.execute(f"DROP INDEX embeddings_s{space.space_key}_hnsw")
