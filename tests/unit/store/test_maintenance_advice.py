"""What is advised, from numbers alone: one line a trouble, and nothing where there is none."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.store.maintenance_advice import IndexStatus, ServerStatus, StandbySpace, TableStatus, advise

NOW = datetime(2026, 11, 21, tzinfo=UTC)
GIB = 1024**3
WELL = ServerStatus(autovacuum=True, idle_transaction_s=0, idle_transaction_pid=None)
CHUNKS = TableStatus("chunks", 100_000, 1_000, 1_000, GIB, GIB, NOW, NOW, 1_000_000)
VECTORS = TableStatus("embeddings_s1", 100_000, 0, 0, 820_000_000, 2 * GIB, NOW, NOW, 1_000_000)
CACHE = TableStatus("cached_embeddings", 50_000, 0, 0, 600_000_000, 0, NOW, NOW, 1_000_000)
HNSW = IndexStatus("embeddings_s1_hnsw", "hnsw", True, 820_000_000, 100_000, None, False)
BINARY = IndexStatus("embeddings_s1_binary", "hnsw", True, 63_000_000, 100_000, None, True)
KEYS = IndexStatus("chunks_pkey", "btree", True, 60_000_000, 2_000_000, 20.0, False)
STANDBY = StandbySpace("c" * 64, 3 * GIB, 3.0)


def test_nothing_is_advised_where_nothing_is_wrong() -> None:
    """The sizes are measured ones: HNSW of 100,000 vectors took 780 MiB, over signs 60."""
    assert advise(WELL, [CHUNKS, VECTORS, CACHE], [HNSW, BINARY, KEYS], [STANDBY]) == []


@pytest.mark.parametrize(
    ("table", "finding", "command"),
    [
        (replace(CHUNKS, dead_row_count=30_000), "30,000 dead rows beside 100,000", "VACUUM (ANALYZE) chunks;"),
        (replace(CHUNKS, vacuum_time=None), "was never vacuumed", "VACUUM (ANALYZE) chunks;"),
        (replace(CHUNKS, changed_row_count=60_000), "60,000 changed", "VACUUM (ANALYZE) chunks;"),
        (replace(CHUNKS, analyze_time=None), "since it was last analyzed", "VACUUM (ANALYZE) chunks;"),
        (replace(CHUNKS, transaction_age=1_200_000_000), "1,200 million transactions", "VACUUM (FREEZE) chunks;"),
        (
            replace(VECTORS, row_count=20_000),
            "782 MiB, where 20,000 rows need 156",
            "VACUUM (FULL, ANALYZE) embeddings_s1;",
        ),
        (replace(CACHE, row_count=9_000), "it fills again", "TRUNCATE cached_embeddings;"),
    ],
)
def test_a_table_is_advised_on(table: TableStatus, finding: str, command: str) -> None:
    [advice] = advise(WELL, [table], [], [])
    assert (advice.subject, advice.command) == (table.table, command)
    assert finding in advice.finding


@pytest.mark.parametrize(
    "table",
    [
        replace(CHUNKS, row_count=500, dead_row_count=9_000, vacuum_time=None, analyze_time=None),
        replace(CHUNKS, dead_row_count=24_000),
        replace(VECTORS, row_count=10, table_bytes=60_000_000),
        # Only tables whose rows are all of one width can be judged by their size.
        replace(CHUNKS, table_bytes=100 * GIB),
    ],
)
def test_what_is_small_or_usual_is_left_alone(table: TableStatus) -> None:
    assert advise(WELL, [table], [], []) == []


@pytest.mark.parametrize(
    ("index", "command"),
    [
        (replace(HNSW, row_count=50_000), "REINDEX INDEX CONCURRENTLY embeddings_s1_hnsw;"),
        (replace(BINARY, size_bytes=200_000_000), "REINDEX INDEX CONCURRENTLY embeddings_s1_binary;"),
        (replace(KEYS, size_bytes=400_000_000), "REINDEX INDEX CONCURRENTLY chunks_pkey;"),
        (replace(HNSW, is_valid=False), "DROP INDEX CONCURRENTLY embeddings_s1_hnsw;"),
    ],
)
def test_an_index_is_advised_on(index: IndexStatus, command: str) -> None:
    [advice] = advise(WELL, [], [index], [])
    assert (advice.subject, advice.command) == (index.index, command)


def test_an_index_over_an_expression_is_not_judged() -> None:
    assert advise(WELL, [], [replace(KEYS, entry_bytes=None, size_bytes=10 * GIB)], []) == []


def test_what_keeps_vacuum_from_its_work_comes_first() -> None:
    ill = ServerStatus(autovacuum=False, idle_transaction_s=7200, idle_transaction_pid=42)
    advice = advise(ill, [replace(CHUNKS, dead_row_count=30_000)], [], [replace(STANDBY, idle_days=20.0)])
    assert [each.subject for each in advice] == ["autovacuum", "connection 42", "chunks", "space cccccccccccc"]
    assert [each.command for each in advice[1:]] == [
        "SELECT pg_terminate_backend(42);",
        "VACUUM (ANALYZE) chunks;",
        "duovec space drop cccccccccccc",
    ]
    assert "2.0 h" in advice[1].finding
    assert "20 days ago and keeps 3.0 GiB" in advice[3].finding
