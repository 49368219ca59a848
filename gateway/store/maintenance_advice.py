"""What an operator had better do about tables and indexes, decided from numbers. Pure: no database."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

_MIB = 1024 * 1024
# Below these nothing is worth anybody's time.
_LEAST_ROWS = 10_000
_LEAST_BYTES = 64 * _MIB
_DEAD_SHARE = 0.25
_CHANGED_SHARE = 0.5
# An index grows past its rows when they are replaced; a fresh one of ours never has more than these times the expected.
_HNSW_BLOAT = 1.5
_BTREE_BLOAT = 2.5
_TABLE_BLOAT = 2.0
# Measured at 20,000 and 100,000 rows: HNSW over halfvec(2560) has 7.8 to 8.2 kB a vector, over signs 0.74.
_HNSW_ENTRY_BYTES = 8192
_BINARY_ENTRY_BYTES = 768
_BTREE_FILL = 0.7
# One vector fills a page; with its row's part of the free-space map and visibility map.
_VECTOR_ROW_BYTES = 8200
_CACHED_ROW_BYTES = 12_700
# PostgreSQL forces a vacuum at 200 million, and stops taking writes at 2,000 million.
_OLD_TRANSACTIONS = 1_000_000_000
_IDLE_TRANSACTION_S = 3600.0
_STANDBY_DAYS = 14.0


@dataclass(frozen=True, slots=True)
class TableStatus:
    """A table, as PostgreSQL's statistics have it; sizes in bytes.

    Attributes:
        row_count: Estimated.
        dead_row_count: Deleted or replaced, and not vacuumed yet.
        changed_row_count: Changed since it was last analyzed.
        vacuum_time: None when it never was.
        transaction_age: Of its oldest row that is not frozen, transactions.
    """

    table: str
    row_count: int
    dead_row_count: int
    changed_row_count: int
    table_bytes: int
    index_bytes: int
    vacuum_time: datetime | None
    analyze_time: datetime | None
    transaction_age: int


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """An index; `entry_bytes` is the width of one entry of a btree, None where that is not known."""

    index: str
    kind: str
    is_valid: bool
    size_bytes: int
    row_count: int
    entry_bytes: float | None
    is_binary: bool


@dataclass(frozen=True, slots=True)
class StandbySpace:
    """A space that is kept to roll back to."""

    fingerprint: str
    size_bytes: int
    idle_days: float


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What keeps vacuum from its work; `idle_transaction_pid` is None where no transaction idles."""

    autovacuum: bool
    idle_transaction_s: float
    idle_transaction_pid: int | None


@dataclass(frozen=True, slots=True)
class Advice:
    """One line: what it is about, what is the matter, and what mends it."""

    subject: str
    finding: str
    command: str


def advise(
    server: ServerStatus,
    tables: Sequence[TableStatus],
    indexes: Sequence[IndexStatus],
    standby_spaces: Sequence[StandbySpace],
) -> list[Advice]:
    """Decide what to do, the gravest first; empty when nothing is."""
    advice: list[Advice] = []
    advice += _about_server(server)
    advice += [found for table in tables if (found := _about_age(table))]
    advice += [found for index in indexes if (found := _about_validity(index))]
    # A table's size tells something only when its dead rows are gone.
    advice += [found for table in tables if (found := _about_vacuum(table) or _about_table_size(table))]
    advice += [found for index in indexes if (found := _about_index_size(index))]
    advice += [
        Advice(
            f"space {space.fingerprint[:12]}",
            f"was replaced {space.idle_days:.0f} days ago and keeps {_size(space.size_bytes)} to roll back to",
            f"duovec space drop {space.fingerprint[:12]}",
        )
        for space in standby_spaces
        if space.idle_days > _STANDBY_DAYS
    ]
    return advice


def _about_server(server: ServerStatus) -> list[Advice]:
    advice = []
    if not server.autovacuum:
        advice.append(
            Advice(
                "autovacuum",
                "is off: deleted rows are never freed, and the planner works with old numbers",
                "ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf();",
            )
        )
    if server.idle_transaction_pid is not None and server.idle_transaction_s > _IDLE_TRANSACTION_S:
        advice.append(
            Advice(
                f"connection {server.idle_transaction_pid}",
                f"has idled in a transaction for {server.idle_transaction_s / 3600:.1f} h, and no row that was deleted "
                "since can be freed",
                f"SELECT pg_terminate_backend({server.idle_transaction_pid});",
            )
        )
    return advice


def _about_age(table: TableStatus) -> Advice | None:
    if table.transaction_age <= _OLD_TRANSACTIONS:
        return None
    return Advice(
        table.table,
        f"has rows of {table.transaction_age / 1e6:,.0f} million transactions ago; at 2,000 PostgreSQL stops writing",
        f"VACUUM (FREEZE) {table.table};",
    )


def _about_validity(index: IndexStatus) -> Advice | None:
    if index.is_valid:
        return None
    return Advice(
        index.index,
        f"takes {_size(index.size_bytes)} and answers nothing: its build was broken off",
        f"DROP INDEX CONCURRENTLY {index.index};",
    )


def _about_vacuum(table: TableStatus) -> Advice | None:
    rows, dead = table.row_count, table.dead_row_count
    if dead > _LEAST_ROWS and dead > _DEAD_SHARE * rows:
        finding = f"has {dead:,} dead rows beside {rows:,}"
    elif rows > _LEAST_ROWS and table.vacuum_time is None:
        finding = f"has {rows:,} rows and was never vacuumed: counting them reads more than it must"
    elif rows > _LEAST_ROWS and (table.analyze_time is None or table.changed_row_count > _CHANGED_SHARE * rows):
        finding = f"has {rows:,} rows, of which {table.changed_row_count:,} changed since it was last analyzed"
    else:
        return None
    return Advice(table.table, finding, f"VACUUM (ANALYZE) {table.table};")


def _about_table_size(table: TableStatus) -> Advice | None:
    if table.table.startswith("embeddings_s"):
        row_bytes, command = _VECTOR_ROW_BYTES, f"VACUUM (FULL, ANALYZE) {table.table};"
        cost = "; searches wait meanwhile"
    elif table.table == "cached_embeddings":
        row_bytes, command, cost = _CACHED_ROW_BYTES, "TRUNCATE cached_embeddings;", "; it fills again"
    else:
        return None
    expected = table.row_count * row_bytes
    if table.table_bytes <= max(_LEAST_BYTES, _TABLE_BLOAT * expected):
        return None
    finding = f"takes {_size(table.table_bytes)}, where {table.row_count:,} rows need {_size(expected)}{cost}"
    return Advice(table.table, finding, command)


def _about_index_size(index: IndexStatus) -> Advice | None:
    if index.kind == "hnsw":
        expected = index.row_count * (_BINARY_ENTRY_BYTES if index.is_binary else _HNSW_ENTRY_BYTES)
        bloat = _HNSW_BLOAT
    elif index.entry_bytes is not None:
        expected, bloat = round(index.row_count * index.entry_bytes / _BTREE_FILL), _BTREE_BLOAT
    else:
        return None
    if not index.is_valid or index.size_bytes <= max(_LEAST_BYTES, bloat * expected):
        return None
    return Advice(
        index.index,
        f"takes {_size(index.size_bytes)}, where {index.row_count:,} rows need {_size(expected)}",
        f"REINDEX INDEX CONCURRENTLY {index.index};",
    )


def _size(size_bytes: float) -> str:
    return f"{size_bytes / _MIB / 1024:.1f} GiB" if size_bytes >= 1024 * _MIB else f"{size_bytes / _MIB:.0f} MiB"
