import asyncpg
import pytest
from store_samples import make_chunk, make_vectors

from gateway.errors import AlreadyExists, NotFound
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.pool import Database
from gateway.store.rows import SpaceRow


async def test_a_codebase_counts_its_chunks(
    chunks: ChunkStore, codebases: CodebaseStore, space: SpaceRow, codebase_key: int
) -> None:
    await chunks.insert(codebase_key, space.space_key, [make_chunk(1), make_chunk(2)], make_vectors(2), timeout_s=5)
    await chunks.insert_reused(codebase_key, space.space_key, [make_chunk(3)], timeout_s=5)
    row = await codebases.get("demo", space_key=space.space_key, timeout_s=5)
    assert (row.codebase_key, row.display_name) == (codebase_key, "Demo")
    assert (row.chunk_count, row.pending_chunk_count) == (2, 1)
    assert await codebases.get_key("demo", timeout_s=5) == codebase_key


async def test_codebases_are_listed_page_by_page(codebases: CodebaseStore, space: SpaceRow) -> None:
    for codebase_id in ("b", "a-1", "a"):
        await codebases.create(codebase_id, codebase_id, timeout_s=5)
    first = await codebases.list("", 2, space_key=space.space_key, timeout_s=5)
    second = await codebases.list(first[-1].codebase_id, 2, space_key=space.space_key, timeout_s=5)
    assert [row.codebase_id for row in first + second] == ["a", "a-1", "b"]


async def test_deleting_a_codebase_deletes_its_chunks_and_vectors(
    database: Database, chunks: ChunkStore, codebases: CodebaseStore, space: SpaceRow, codebase_key: int
) -> None:
    other = await codebases.create("other", "Other", timeout_s=5)
    rows, vectors_BD = [make_chunk(i) for i in range(5)], make_vectors(5)
    await chunks.insert(codebase_key, space.space_key, rows, vectors_BD, timeout_s=5)
    await chunks.insert(other.codebase_key, space.space_key, rows[:2], vectors_BD[:2], timeout_s=5)
    assert await codebases.delete("demo", timeout_s=5) == 5
    async with database.acquire(5) as connection:
        left = await connection.fetch(
            "SELECT DISTINCT codebase_key FROM embeddings UNION SELECT codebase_key FROM chunks"
        )
    assert [record["codebase_key"] for record in left] == [other.codebase_key]


async def test_whatever_names_a_codebase_goes_with_it(database: Database) -> None:
    """A migration that adds a table has its rows deleted with their codebase, by one cascade or several."""
    async with database.acquire(5) as connection:
        records = await connection.fetch(
            "SELECT c.oid::regclass::text AS name, a.attname AS field,"
            " EXISTS (SELECT FROM pg_constraint f WHERE f.conrelid = c.oid AND f.contype = 'f' AND f.confdeltype = 'c'"
            "         AND a.attnum = ANY (f.conkey)) AS cascades"
            " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
            " AND a.attname ~ '(codebase_key|codebase_id)$'"
        )
    found = {(record["name"], record["field"]): record["cascades"] for record in records}
    assert found.pop(("codebases", "codebase_key")) is found.pop(("codebases", "codebase_id")) is False
    assert {("chunks", "codebase_key"), ("revisions", "codebase_key"), ("searches", "like_codebase_key")} <= set(found)
    assert [column for column, cascades in found.items() if not cascades] == []


async def test_an_id_is_used_once(codebases: CodebaseStore, codebase_key: int) -> None:
    with pytest.raises(AlreadyExists, match="'demo'"):
        await codebases.create("demo", "Again", timeout_s=5)


async def test_an_unknown_codebase_is_named_in_the_error(codebases: CodebaseStore, space: SpaceRow) -> None:
    with pytest.raises(NotFound, match="'nope' does not exist"):
        await codebases.get("nope", space_key=space.space_key, timeout_s=5)
    with pytest.raises(NotFound, match="'nope' does not exist"):
        await codebases.get_key("nope", timeout_s=5)
    with pytest.raises(NotFound, match="'nope' does not exist"):
        await codebases.delete("nope", timeout_s=5)


@pytest.mark.parametrize("codebase_id", ["", "-a", "a-", "A", "a_b", "a" * 64, "a\n"])
async def test_the_database_refuses_an_id_that_is_no_slug(codebases: CodebaseStore, codebase_id: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await codebases.create(codebase_id, "x", timeout_s=5)
