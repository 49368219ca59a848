"""Advice from the real PostgreSQL's statistics: what is broken is found, and the command that is given mends it."""

import asyncio

import asyncpg
import pytest
from store_samples import make_chunk, make_vectors

from gateway.store import maintenance_advice
from gateway.store.chunks import ChunkStore
from gateway.store.maintenance import MaintenanceStore
from gateway.store.maintenance_advice import Advice, TableStatus
from gateway.store.pool import Database
from gateway.store.rows import SpaceRow
from gateway.store.spaces import SpaceStore


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that hundreds of rows are worth advice."""
    monkeypatch.setattr(maintenance_advice, "_LEAST_ROWS", 100)
    monkeypatch.setattr(maintenance_advice, "_LEAST_BYTES", 400_000)


@pytest.fixture
async def stored(database: Database, chunks: ChunkStore, codebase_key: int, space: SpaceRow) -> SpaceRow:
    """300 chunks with vectors, vacuumed and analyzed; autovacuum leaves the tables to the test."""
    await chunks.insert(
        codebase_key, space.space_key, [make_chunk(i) for i in range(300)], make_vectors(300), timeout_s=60
    )
    async with database.acquire(60, autocommit=True) as connection:
        # What this connection has inserted is reported before the vacuum counts, not after it.
        await connection.execute("SELECT pg_stat_force_next_flush()")
        for table in ("chunks", "chunk_words", f"embeddings_s{space.space_key}"):
            await connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        await connection.execute("VACUUM (ANALYZE)")
    return space


async def inspect(database: Database, subject: str) -> tuple[dict[str, TableStatus], list[Advice]]:
    """The tables by name, and the advice on one subject; statistics may take a moment to be reported."""
    async with database.acquire(5) as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
    tables, advice = await MaintenanceStore(database).inspect(timeout_s=10)
    return {table.table: table for table in tables}, [each for each in advice if each.subject == subject]


async def until_advised(database: Database, subject: str, *, advised: bool) -> list[Advice]:
    async with asyncio.timeout(20):
        while True:
            _, advice = await inspect(database, subject)
            if bool(advice) is advised:
                return advice
            await asyncio.sleep(0.05)


async def run(database: Database, sql: str) -> None:
    async with database.acquire(60, autocommit=True) as connection:
        await connection.execute(sql)
        await connection.execute("SELECT pg_stat_force_next_flush()")


async def test_healthy_tables_are_listed_and_not_advised_on(database: Database, stored: SpaceRow) -> None:
    """Sizes are those that PostgreSQL gives for the relations themselves."""
    vectors = f"embeddings_s{stored.space_key}"
    tables, _ = await inspect(database, "")
    async with database.acquire(5) as connection:
        sizes = await connection.fetchrow(
            "SELECT pg_table_size($1::text::regclass), pg_indexes_size($1::text::regclass)", vectors
        )
    assert (tables[vectors].table_bytes, tables[vectors].index_bytes) == tuple(sizes)
    assert (tables[vectors].row_count, tables[vectors].dead_row_count) == (300, 0)
    assert tables[vectors].vacuum_time is not None
    _, advice = await MaintenanceStore(database).inspect(timeout_s=10)
    assert [each for each in advice if each.subject.startswith(("chunk", "embeddings"))] == []


async def test_dead_rows_and_a_table_larger_than_its_rows(database: Database, stored: SpaceRow) -> None:
    vectors = f"embeddings_s{stored.space_key}"
    await run(database, "DELETE FROM chunks WHERE chunk_id % 4 <> 0")
    [dead] = await until_advised(database, vectors, advised=True)
    assert "dead rows" in dead.finding
    await run(database, dead.command)
    # Vacuumed, the pages of three vectors in four are free, and nobody needs them.
    [large] = await until_advised(database, vectors, advised=True)
    assert "rows need" in large.finding
    await run(database, large.command)
    await until_advised(database, vectors, advised=False)


async def test_a_bloated_index_is_found_and_mended(
    database: Database, stored: SpaceRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An HNSW graph keeps the pages of rows that were deleted."""
    # Of signs, an entry is small.
    monkeypatch.setattr(maintenance_advice, "_LEAST_BYTES", 100_000)
    await SpaceStore(database).build_hnsw_index(stored.space_key, above_chunk_count=-1)
    index = f"embeddings_s{stored.space_key}_binary"
    await until_advised(database, index, advised=False)
    await run(database, "DELETE FROM chunks WHERE chunk_id % 4 <> 0")
    await run(database, f"VACUUM (ANALYZE) embeddings_s{stored.space_key}")
    [bloated] = await until_advised(database, index, advised=True)
    assert bloated.command == f"REINDEX INDEX CONCURRENTLY {index};"
    await run(database, bloated.command)
    await until_advised(database, index, advised=False)


async def test_a_build_that_was_broken_off_is_found_and_mended(database: Database, stored: SpaceRow) -> None:
    await SpaceStore(database).build_hnsw_index(stored.space_key, above_chunk_count=-1)
    index = f"embeddings_s{stored.space_key}_binary"
    await run(database, f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{index}'::regclass")
    [broken] = await until_advised(database, index, advised=True)
    assert "answers nothing" in broken.finding
    await run(database, broken.command)
    await until_advised(database, index, advised=False)
    assert await SpaceStore(database).build_hnsw_index(stored.space_key, above_chunk_count=-1)


async def test_an_index_that_is_being_built_is_left_alone(database: Database, stored: SpaceRow, url: str) -> None:
    """It is not valid yet, and to drop it is no good advice. A writer keeps the build waiting."""
    index, table = f"embeddings_s{stored.space_key}_binary", f"embeddings_s{stored.space_key}"
    writer, looker = await asyncpg.connect(url), await asyncpg.connect(url)
    await writer.execute(f"BEGIN; LOCK TABLE {table} IN ROW EXCLUSIVE MODE")
    building = asyncio.create_task(SpaceStore(database).build_hnsw_index(stored.space_key, above_chunk_count=-1))
    async with asyncio.timeout(20):
        while not await looker.fetch("SELECT FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting%'"):
            await asyncio.sleep(0.02)
    await looker.close()
    _, advice = await inspect(database, index)
    await writer.execute("COMMIT")
    await writer.close()
    assert await building
    assert advice == []


async def test_a_transaction_that_idles_is_found(database: Database, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance_advice, "_IDLE_TRANSACTION_S", 0.0)
    idler = await asyncpg.connect(url)
    pid = await idler.fetchval("SELECT pg_backend_pid()")
    await idler.execute("BEGIN")
    [advice] = await until_advised(database, f"connection {pid}", advised=True)
    await run(database, advice.command)
    await until_advised(database, f"connection {pid}", advised=False)
    idler.terminate()


async def test_it_needs_no_superuser(database: Database, stored: SpaceRow, url: str) -> None:
    """The owner of the tables is enough, as a hosted database has it."""
    name = url.rsplit("/", 1)[1]
    async with database.acquire(30, autocommit=True) as connection:
        await connection.execute("CREATE ROLE plain_owner LOGIN PASSWORD 'plain'")
        await connection.execute(f"GRANT ALL ON DATABASE {name} TO plain_owner")
        await connection.execute("GRANT CREATE, USAGE ON SCHEMA public TO plain_owner")
        for table in await connection.fetch(
            "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE nspname = 'public' AND relkind IN ('r', 'p')"
        ):
            await connection.execute(f"ALTER TABLE {table['relname']} OWNER TO plain_owner")
    host = url.rsplit("@", 1)[1]
    plain = await Database.connect(f"postgresql://plain_owner:plain@{host}")
    tables, _ = await MaintenanceStore(plain.as_system()).inspect(timeout_s=10)
    await plain.close()
    assert {"chunks", f"embeddings_s{stored.space_key}"} <= {table.table for table in tables}
    async with database.acquire(30, autocommit=True) as connection:
        await connection.execute("DROP OWNED BY plain_owner CASCADE")
        await connection.execute("DROP ROLE plain_owner")
