import asyncio

import numpy as np
import pytest
from numpy.typing import NDArray
from store_samples import make_chunk, make_vectors

from gateway.errors import BadVector, DeadlineExceeded
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.pool import Database
from gateway.store.rows import SpaceRow
from gateway.store.search import SearchStore
from gateway.store.spaces import SpaceStore


def nearest(vectors_BD: NDArray[np.float32], query_D: NDArray[np.float32], limit: int) -> list[int]:
    return list(np.argsort(-(vectors_BD @ query_D), kind="stable")[:limit])


async def test_exact_search_equals_brute_force(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    vectors_BD = make_vectors(300)
    rows = [make_chunk(i) for i in range(300)]
    ids = await chunks.insert(codebase_key, space.space_key, rows, vectors_BD, timeout_s=30)
    for query_D in make_vectors(5, seed=1):
        result = await SearchStore(database).search(codebase_key, space.space_key, query_D, limit=10, timeout_s=5)
        expected = nearest(vectors_BD, query_D, 10)
        assert [hit.chunk_id for hit in result.hits] == [ids[i] for i in expected]
        np.testing.assert_allclose([h.score for h in result.hits], (vectors_BD @ query_D)[expected], atol=1e-4)
        assert [hit.chunk for hit in result.hits] == [rows[i] for i in expected]
        assert (result.exact, result.searched_chunk_count, result.pending_chunk_count) == (True, 300, 0)


async def test_equal_scores_come_in_the_order_of_chunk_ids(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    vectors_BD = np.repeat(make_vectors(1), 20, axis=0)
    ids = await chunks.insert(
        codebase_key, space.space_key, [make_chunk(i) for i in range(20)], vectors_BD, timeout_s=5
    )
    result = await SearchStore(database).search(codebase_key, space.space_key, vectors_BD[0], limit=5, timeout_s=5)
    assert [hit.chunk_id for hit in result.hits] == sorted(ids)[:5]
    assert result.hits[0].score == pytest.approx(1, abs=1e-4)


async def test_the_hnsw_index_finds_what_brute_force_finds_among_other_codebases(
    database: Database, chunks: ChunkStore, codebases: CodebaseStore, space: SpaceRow, codebase_key: int
) -> None:
    other = await codebases.create("other", "Other", timeout_s=5)
    vectors_BD, rows = make_vectors(1500), [make_chunk(i) for i in range(1500)]
    ids = await chunks.insert(codebase_key, space.space_key, rows, vectors_BD, timeout_s=60)
    await chunks.insert(other.codebase_key, space.space_key, rows[:1000], vectors_BD[:1000], timeout_s=60)
    spaces, search = SpaceStore(database), SearchStore(database, exact_limit=1000)
    assert not await spaces.build_hnsw_index(space.space_key)
    assert await spaces.build_hnsw_index(space.space_key, above_chunk_count=1000)
    assert not await spaces.build_hnsw_index(space.space_key, above_chunk_count=1000)
    found = 0
    for query_D in make_vectors(20, seed=1):
        result = await search.search(codebase_key, space.space_key, query_D, limit=10, timeout_s=5)
        assert not result.exact
        assert len(result.hits) == 10
        found += len({h.chunk_id for h in result.hits} & {ids[i] for i in nearest(vectors_BD, query_D, 10)})
    assert found >= 190  # recall@10 of 0.95
    result = await search.search(other.codebase_key, space.space_key, vectors_BD[7], limit=3, timeout_s=5)
    assert result.exact
    assert result.hits[0].chunk.path == rows[7].path


async def test_vectors_of_another_space_are_never_found(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    vectors_BD = make_vectors(2)
    async with database.acquire(5) as connection:
        other = await connection.fetchval(
            "INSERT INTO spaces (fingerprint, manifest, state) VALUES ($1, '{}', 'BUILDING') RETURNING space_key",
            "b" * 64,
        )
        await connection.execute(f"CREATE TABLE embeddings_s{other} PARTITION OF embeddings FOR VALUES IN ({other})")
    await chunks.insert(codebase_key, space.space_key, [make_chunk(0)], vectors_BD[:1], timeout_s=5)
    await chunks.insert(codebase_key, other, [make_chunk(1)], vectors_BD[1:], timeout_s=5)
    result = await SearchStore(database).search(codebase_key, space.space_key, vectors_BD[1], limit=10, timeout_s=5)
    assert [hit.chunk.symbol for hit in result.hits] == ["f0"]
    assert (result.searched_chunk_count, result.pending_chunk_count) == (1, 1)


async def test_100_searches_at_once_share_10_connections(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    vectors_BD = make_vectors(100)
    ids = await chunks.insert(
        codebase_key, space.space_key, [make_chunk(i) for i in range(100)], vectors_BD, timeout_s=30
    )
    search = SearchStore(database)
    results = await asyncio.gather(
        *(search.search(codebase_key, space.space_key, v, limit=1, timeout_s=30) for v in vectors_BD)
    )
    assert [result.hits[0].chunk_id for result in results] == ids


@pytest.mark.parametrize("query_D", [np.zeros(2560), np.full(2560, np.nan), np.ones(384)])
async def test_a_query_that_is_no_vector_of_the_space_is_refused(
    database: Database, query_D: NDArray[np.float64]
) -> None:
    with pytest.raises(BadVector):
        await SearchStore(database).search(1, 1, query_D.astype(np.float32), limit=10, timeout_s=5)


async def test_the_server_drops_a_query_whose_deadline_passed(database: Database, url: str) -> None:
    with pytest.raises(DeadlineExceeded):
        async with database.acquire(0.2) as connection:
            await connection.execute("SELECT pg_sleep(60) /* late */")
    async with database.acquire(5) as connection:
        running = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%/* late */'"
            " AND pid <> pg_backend_pid()"
        )
    assert running == 0
