"""Spaces: which one is active, and the partition and index that hold its vectors."""

import json
from collections.abc import Mapping
from typing import Any

import asyncpg

from gateway.errors import StartupError
from gateway.store.pool import Database
from gateway.store.queries import load_queries
from gateway.store.rows import SpaceRow
from gateway.store.search_plan import BINARY_LIMIT, EXACT_LIMIT, index_for

_QUERIES = load_queries("spaces.sql")


class SpaceStore:
    """Keeps the one active space, and its storage."""

    def __init__(self, database: Database) -> None:
        """Use `database` for every call."""
        self._database = database

    async def get_active(self, *, timeout_s: float = 10) -> SpaceRow | None:
        """Get the active space; None before the first `ensure_active`."""
        async with self._database.acquire(timeout_s) as connection:
            record = await connection.fetchrow(_QUERIES["get_active_space"])
        return None if record is None else _space_row(record)

    async def ensure_active(self, fingerprint: str, manifest: Mapping[str, Any], *, timeout_s: float = 30) -> SpaceRow:
        """Make a space the active one, with a partition for its vectors.

        Another active space is retired only when it holds no vectors.

        Args:
            fingerprint: 64 hex digits.
            manifest: What it was taken over; stored as JSON when the space is new.
            timeout_s: Deadline, seconds.

        Raises:
            StartupError: Another space is active and holds vectors, which this one cannot be compared with.
        """
        async with self._database.acquire(timeout_s) as connection:
            await connection.execute(_QUERIES["lock_spaces"])
            record = await connection.fetchrow(_QUERIES["get_active_space"])
            if record is not None and record["fingerprint"] != fingerprint:
                if await connection.fetchval(_QUERIES["has_embeddings"], record["space_key"]):
                    raise StartupError(
                        f"the database holds vectors of space {record['fingerprint']}, but the models being served "
                        f"make space {fingerprint}; serve the models of the stored space again, or delete the "
                        "codebases and index them anew"
                    )
                await connection.execute(_QUERIES["retire_space"], record["space_key"])
                record = None
            if record is None:
                record = await connection.fetchrow(_QUERIES["activate_space"], fingerprint, json.dumps(manifest))
            if record is None:
                raise RuntimeError("INSERT ... RETURNING gave no row")
            space = _space_row(record)
            for name in ("create_partition", "store_vectors_inline", "tune_vacuum"):
                await connection.execute(_ddl(name, space.space_key))
        return space

    async def build_hnsw_index(
        self,
        space_key: int,
        *,
        above_chunk_count: int = EXACT_LIMIT,
        binary_above_count: int = BINARY_LIMIT,
        timeout_s: float = 24 * 3600,
    ) -> bool:
        """Build the HNSW index of a space once a codebase is too large for exact search. Repeating it is harmless.

        The index is not made with the partition, because an insert into it costs 5 to 10 ms of a core (2560
        dimensions), as much as both encoders, while a codebase up to `EXACT_LIMIT` never reads it, and building it
        afterwards 0.5 to 2 ms a vector. Reads and writes go on during the build. A very large space gets the index
        over signs, and then loses the one over whole vectors.

        Args:
            space_key: The space.
            above_chunk_count: Build when some codebase has more vectors than this; -1 builds at once.
            binary_above_count: Vectors of the space above which the index over signs is built.
            timeout_s: Deadline, seconds. A build that is broken off is made anew by the next call.

        Returns:
            True when this call built an index; False when it is there, not needed, or being built by another.
        """
        async with self._database.acquire(timeout_s, autocommit=True) as connection:
            counts = await connection.fetchrow(_QUERIES["count_vectors"], space_key)
            if counts is None:
                raise RuntimeError("an aggregate gave no row")
            index = index_for(
                counts["total"], counts["largest"], exact_limit=above_chunk_count, binary_limit=binary_above_count
            ).lower()
            if index == "exact" or await connection.fetchval(_QUERIES["is_index_valid"], space_key, index):
                return False
            # The pool's reset frees the lock when the build fails.
            if not await connection.fetchval(_QUERIES["try_lock_hnsw_build"], space_key):
                return False
            if await connection.fetchval(_QUERIES["is_index_valid"], space_key, index):
                await connection.execute(_QUERIES["unlock_hnsw_build"], space_key)
                return False
            await connection.execute(_ddl(f"drop_{index}_index", space_key))
            await connection.execute(_ddl(f"create_{index}_index", space_key))
            if index == "binary":
                await connection.execute(_ddl("drop_hnsw_index", space_key))
            await connection.execute(_ddl("vacuum_partition", space_key))
            await connection.execute(_QUERIES["unlock_hnsw_build"], space_key)
        return True


def _ddl(name: str, space_key: int) -> str:
    return _QUERIES[name].format(space_key=int(space_key))


def _space_row(record: asyncpg.Record) -> SpaceRow:
    return SpaceRow(**{**record, "manifest": json.loads(record["manifest"])})
