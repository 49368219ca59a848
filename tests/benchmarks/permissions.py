"""What permissions cost: a table, and a JSON line for results/permissions.json.

As the system nothing is checked, so that is "before".

Usage: python -m tests.benchmarks.permissions   (starts its own PostgreSQL)
"""

import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from pgvector import HalfVector

from gateway.local.postgres import Postgres
from gateway.store.api_key import ApiKey
from gateway.store.caller import acting_with
from gateway.store.codebases import CodebaseStore
from gateway.store.migrations import migrate
from gateway.store.pool import Database
from gateway.store.queries import load_queries
from gateway.store.rows import SearchQuery
from gateway.store.search import SearchStore
from gateway.store.spaces import SpaceStore
from tests.benchmarks.keeping import keep, rounded

CHUNKS, BATCH, GRANTS = 10_000, 64, 200
INSERT = load_queries("chunks.sql")["insert_embeddings"]
COLUMNS = ("space_key", "chunk_id", "codebase_key", "embedding")


async def median_ms(call: Callable[[], Awaitable[object]], repetitions: int) -> float:
    """Median wall time of a call, milliseconds, after five that are not counted."""
    times = []
    for repetition in range(repetitions + 5):
        started = time.perf_counter()
        await call()
        if repetition >= 5:
            times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


async def make_caller(database: Database, codebase_keys: list[int]) -> ApiKey:
    """A principal with the role WRITE on some codebases."""
    key = ApiKey.generate()
    async with database.acquire(10) as connection:
        principal_key = await connection.fetchval(
            "INSERT INTO principals (principal_id, display_name) VALUES ($1, $1) RETURNING principal_key", key.key_id
        )
        await connection.execute(
            "INSERT INTO api_keys (key_id, principal_key, secret_sha256, display_name) VALUES ($1, $2, $3, '')",
            key.key_id,
            principal_key,
            key.secret_sha256,
        )
        await connection.execute(
            "INSERT INTO grants (principal_key, codebase_key, role) SELECT $1, unnest($2::bigint[]), 'WRITE'",
            principal_key,
            codebase_keys,
        )
    return key


async def measure(database: Database) -> dict[str, float]:
    """Every figure on an otherwise idle database."""
    system = database.as_system()
    space_key = (await SpaceStore(system).ensure_active("a" * 64, {})).space_key
    keys = [(await CodebaseStore(system).create(f"c{n}", "x", timeout_s=10)).codebase_key for n in range(GRANTS)]
    codebase_key = keys[0]
    async with system.acquire(60) as connection:
        records = await connection.fetch(
            "INSERT INTO chunks (codebase_key, path, language, symbol, kind, start_line, end_line, content,"
            " content_sha256, file_sha256, ordinal, file_chunk_count)"
            " SELECT $1, 'p' || i, 'python', '', 'text', 1, 1, 'x', sha256('x'), sha256('x'), 0, 1"
            " FROM generate_series(1, $2) i RETURNING chunk_id",
            codebase_key,
            CHUNKS,
        )
    ids = [record["chunk_id"] for record in records]
    vectors_BD = np.random.default_rng(1).standard_normal((CHUNKS, 2560))
    vectors_BD /= np.linalg.norm(vectors_BD, axis=1, keepdims=True)
    halves = [HalfVector(vector.astype(np.float16)) for vector in vectors_BD]
    callers: dict[str, tuple[Database, AbstractContextManager[Any]]] = {"system": (system, nullcontext())}
    for name, granted in (("caller of 1", keys[:1]), (f"caller of {GRANTS}", keys)):
        callers[name] = (database, acting_with(await make_caller(system, granted)))

    async def insert(asker: Database, *, copy: bool) -> float:
        async with system.acquire(60) as connection:
            await connection.execute("TRUNCATE embeddings")
        started = time.perf_counter()
        for at in range(0, CHUNKS, BATCH):
            some_ids, some = ids[at : at + BATCH], halves[at : at + BATCH]
            async with asker.acquire(60) as connection:
                if copy:
                    rows = [(space_key, one, codebase_key, half) for one, half in zip(some_ids, some, strict=True)]
                    await connection.copy_records_to_table("embeddings", columns=COLUMNS, records=rows)
                else:
                    await connection.execute(INSERT, codebase_key, space_key, some_ids, some)
        return CHUNKS / (time.perf_counter() - started)

    async def enter(asker: Database) -> None:
        async with asker.acquire(10):
            pass

    figures = {"COPY, system, rows/s": max([await insert(system, copy=True) for _ in range(3)])}
    for name, (asker, acting) in callers.items():
        with acting:
            figures[f"array, {name}, rows/s"] = max([await insert(asker, copy=False) for _ in range(3)])
            async with system.acquire(60, autocommit=True) as connection:
                await connection.execute("VACUUM ANALYZE")
            search = SearchStore(asker)
            query = SearchQuery(vectors_BD[0].astype(np.float32), limit=10)
            figures[f"empty transaction, {name}, ms"] = await median_ms(lambda: enter(asker), 300)  # noqa: B023
            figures[f"exact search, {name}, ms"] = await median_ms(
                lambda: search.search(["c0"], space_key, query, timeout_s=10),  # noqa: B023
                60,
            )
    return figures


async def main() -> None:
    """Start a PostgreSQL, measure, stop."""
    root = Path(tempfile.mkdtemp(prefix="duovec-bench-"))
    root.chmod(0o755)  # noqa: ASYNC240 - nothing runs beside it; PostgreSQL's account must be able to enter
    postgres = Postgres(root / "data", log_path=root / "log")
    try:
        await postgres.start()
        await migrate(postgres.url)
        database = await Database.connect(postgres.url)
        figures = await measure(database)
        await database.close()
    finally:
        await postgres.stop()
        shutil.rmtree(root)
    for name, figure in figures.items():
        print(f"{name:<44}{figure:10.2f}")
    keep("permissions", {"figures": rounded(figures)})


if __name__ == "__main__":
    asyncio.run(main())
