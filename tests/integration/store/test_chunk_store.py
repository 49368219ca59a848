import asyncio
from dataclasses import replace
from typing import Any

import asyncpg
import numpy as np
import pytest
from pgvector import HalfVector
from store_samples import make_chunk, make_vectors, sha256

from gateway.errors import BadVector, NotFound
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.pool import Database
from gateway.store.rows import FileSelector, FileVersionRow, SpaceRow


async def count(database: Database, table: str) -> int:
    async with database.acquire(5) as connection:
        number: int = await connection.fetchval(f"SELECT count(*) FROM {table}")
    return number


async def test_inserting_twice_stores_once(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    rows, vectors_BD = [make_chunk(i) for i in (3, 1, 2)], make_vectors(3)
    ids = await chunks.insert(codebase_key, space.space_key, rows, vectors_BD, timeout_s=5)
    assert await chunks.insert(codebase_key, space.space_key, rows, vectors_BD, timeout_s=5) == ids
    assert (await count(database, "chunks"), await count(database, "embeddings")) == (3, 3)


async def test_rows_that_are_the_same_chunk_within_a_batch_are_stored_once(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    rows = [make_chunk(1), make_chunk(2), make_chunk(1)]
    ids = await chunks.insert(codebase_key, space.space_key, rows, make_vectors(3), timeout_s=5)
    assert ids[0] == ids[2] != ids[1]
    assert await count(database, "embeddings") == 2


async def test_concurrent_writers_of_the_same_chunks_agree(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    rows, vectors_BD = [make_chunk(i) for i in range(50)], make_vectors(50)
    orders = [np.random.default_rng(seed).permutation(50) for seed in range(8)]
    results = await asyncio.gather(
        *(
            chunks.insert(codebase_key, space.space_key, [rows[i] for i in order], vectors_BD[order], timeout_s=30)
            for order in orders
        )
    )
    by_row = [dict(zip(order.tolist(), ids, strict=True)) for order, ids in zip(orders, results, strict=True)]
    assert all(ids == by_row[0] for ids in by_row)
    assert await count(database, "embeddings") == 50


async def test_what_exists_is_found_by_position_and_by_text(
    chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    stored = make_chunk(1)
    ids = await chunks.insert(codebase_key, space.space_key, [stored], make_vectors(1), timeout_s=5)
    moved = make_chunk(9, path="moved.py", text=stored.content)
    existing = await chunks.find_existing(codebase_key, space.space_key, [make_chunk(5), moved, stored])
    assert existing.unchanged == {2: ids[0]}
    assert existing.reusable == {stored.text_sha256}


@pytest.mark.parametrize(
    "change",
    [
        {"language": "cython"},
        {"kind": "method"},
        {"start_line": 2},
        {"end_line": 3},
        {"file_chunk_count": 2},
        # The text that is embedded, and so its hash, is the same as that of symbol "f1" with another content.
        {"symbol": "", "content": "f1\ndef f1(): ..."},
    ],
    ids=lambda change: "-".join(change),
)
async def test_a_chunk_that_differs_beside_its_text_is_written(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int, change: dict[str, Any]
) -> None:
    """Who is told that a chunk is stored finds it as it was sent; its vector stays."""
    stored = make_chunk(1)
    [chunk_id] = await chunks.insert(codebase_key, space.space_key, [stored], make_vectors(1), timeout_s=5)
    changed = replace(stored, **change)
    existing = await chunks.find_existing(codebase_key, space.space_key, [changed])
    assert (existing.unchanged, existing.reusable) == ({}, {stored.text_sha256})
    assert await chunks.insert_reused(codebase_key, space.space_key, [changed], timeout_s=5) == [chunk_id]
    async with database.acquire(5) as connection:
        record = await connection.fetchrow("SELECT * FROM chunks")
    assert record is not None
    assert {name: record[name] for name in change} == change
    assert await count(database, "embeddings") == 1


async def test_a_reused_vector_is_the_one_of_the_same_text(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    stored, unknown = make_chunk(1), make_chunk(2)
    moved = make_chunk(9, path="moved.py", text=stored.content)
    await chunks.insert(codebase_key, space.space_key, [stored], make_vectors(1), timeout_s=5)
    ids = await chunks.insert_reused(codebase_key, space.space_key, [unknown, moved], timeout_s=5)
    assert ids[0] is None
    async with database.acquire(5) as connection:
        vectors = await connection.fetch("SELECT embedding FROM embeddings ORDER BY chunk_id")
    assert len(vectors) == 2
    assert vectors[0]["embedding"] == vectors[1]["embedding"] == HalfVector(make_vectors(1)[0])


async def test_a_chunk_whose_text_changed_gets_the_new_vector(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    row, vectors_BD = make_chunk(1), make_vectors(2)
    changed = replace(row, content="other", text_sha256=sha256("other"))
    first = await chunks.insert(codebase_key, space.space_key, [row], vectors_BD[:1], timeout_s=5)
    assert (await chunks.find_existing(codebase_key, space.space_key, [changed])).unchanged == {}
    second = await chunks.insert(codebase_key, space.space_key, [changed], vectors_BD[1:], timeout_s=5)
    assert first == second
    async with database.acquire(5) as connection:
        assert await connection.fetchval("SELECT embedding FROM embeddings") == HalfVector(vectors_BD[1])


async def test_files_are_listed_page_by_page(chunks: ChunkStore, space: SpaceRow, codebase_key: int) -> None:
    whole = [replace(make_chunk(i, path="b.py", count=2), ordinal=i) for i in range(2)]
    partial = make_chunk(1, path="a.py", version="2", count=3)
    older = make_chunk(1, path="a.py", version="1")
    await chunks.insert(codebase_key, space.space_key, [*whole, partial, older], make_vectors(4), timeout_s=5)
    expected = sorted(
        [
            FileVersionRow("a.py", sha256("1"), 1, 1),
            FileVersionRow("a.py", sha256("2"), 1, 3),
            FileVersionRow("b.py", sha256("1"), 2, 2),
        ],
        key=lambda row: (row.path, row.file_sha256),
    )
    assert await chunks.list_files(codebase_key, space.space_key, None, 10) == expected
    page = await chunks.list_files(codebase_key, space.space_key, None, 1)
    page += await chunks.list_files(codebase_key, space.space_key, (page[-1].path, page[-1].file_sha256), 1)
    page += await chunks.list_files(codebase_key, space.space_key, (page[-1].path, page[-1].file_sha256), 10)
    assert page == expected


async def test_deleting_files_keeps_the_selected_version(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    rows = [
        *(make_chunk(1, path="a.py", version=version) for version in "123"),
        make_chunk(1, path="b.py"),
        make_chunk(1, path="c.py"),
    ]
    await chunks.insert(codebase_key, space.space_key, rows, make_vectors(5), timeout_s=5)
    selectors = [FileSelector("a.py", sha256("2")), FileSelector("b.py"), FileSelector("not-there.py")]
    assert await chunks.delete_files(codebase_key, selectors) == 3
    left = await chunks.list_files(codebase_key, space.space_key, None, 10)
    assert [(row.path, row.file_sha256) for row in left] == [("a.py", sha256("2")), ("c.py", sha256("1"))]
    assert await count(database, "embeddings") == 2


async def test_deleting_named_versions_deletes_no_others(
    chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    """What another writer stored since they were listed stays, and so does the one to keep, be it named or not."""
    rows = [make_chunk(1, path=path, version=version) for path in ("a.py", "b.py") for version in "123"]
    await chunks.insert(codebase_key, space.space_key, rows, make_vectors(6), timeout_s=5)
    named = [sha256(version) for version in "129"]
    selectors = [FileSelector("a.py", sha256("2"), 1, named), FileSelector("b.py", None, None, named[:1])]
    assert await chunks.delete_files(codebase_key, selectors) == 2
    left = await chunks.list_files(codebase_key, space.space_key, None, 10)
    expected = [("a.py", sha256("2")), ("a.py", sha256("3")), ("b.py", sha256("2")), ("b.py", sha256("3"))]
    assert sorted((row.path, row.file_sha256) for row in left) == sorted(expected)


async def test_a_version_that_is_a_mix_of_two_cuts_is_never_complete(
    chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    """Three chunks by one cut, of which another one wrote one anew; keeping that one deletes the rest of the first."""
    rows = [replace(make_chunk(i, path="a.py", count=3), ordinal=i) for i in range(3)]
    await chunks.insert(codebase_key, space.space_key, rows, make_vectors(3), timeout_s=5)
    anew = replace(rows[0], content="def anew(): pass", text_sha256=sha256("anew"), file_chunk_count=1)
    await chunks.insert(codebase_key, space.space_key, [anew], make_vectors(4)[3:], timeout_s=5)
    version = rows[0].file_sha256
    listed = await chunks.list_files(codebase_key, space.space_key, None, 10)
    assert listed == [FileVersionRow("a.py", version, 0, 3)]
    assert await chunks.delete_files(codebase_key, [FileSelector("a.py", version)]) == 0
    assert await chunks.delete_files(codebase_key, [FileSelector("a.py", version, 1, [sha256("9")])]) == 2
    listed = await chunks.list_files(codebase_key, space.space_key, None, 10)
    assert listed == [FileVersionRow("a.py", version, 1, 1)]


@pytest.mark.parametrize("vector", [np.zeros(2560), np.ones(2560), np.full(2560, np.nan)])
async def test_the_store_refuses_a_vector_that_is_not_of_unit_norm(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int, vector: np.ndarray
) -> None:
    with pytest.raises(BadVector):
        await chunks.insert(
            codebase_key, space.space_key, [make_chunk(1)], vector[None].astype(np.float32), timeout_s=5
        )
    assert await count(database, "chunks") == 0


async def test_the_database_itself_refuses_other_dimensions_and_zero_vectors(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    ids = await chunks.insert(codebase_key, space.space_key, [make_chunk(1)], make_vectors(1), timeout_s=5)
    update = "UPDATE embeddings SET embedding = $2 WHERE chunk_id = $1"
    async with database.acquire(5) as connection:
        with pytest.raises(asyncpg.DataError, match="expected 2560 dimensions, not 384"):
            async with connection.transaction():
                await connection.execute(update, ids[0], HalfVector(make_vectors(1)[0, :384]))
        with pytest.raises(asyncpg.CheckViolationError, match="embeddings_unit_norm"):
            await connection.execute(update, ids[0], HalfVector(np.zeros(2560)))


async def test_writing_to_a_codebase_that_is_gone_is_not_found(
    chunks: ChunkStore, codebases: CodebaseStore, space: SpaceRow, codebase_key: int
) -> None:
    await codebases.delete("demo", timeout_s=5)
    with pytest.raises(NotFound, match=str(codebase_key)):
        await chunks.insert(codebase_key, space.space_key, [make_chunk(1)], make_vectors(1), timeout_s=5)
