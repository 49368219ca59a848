"""Spaces: which one is active, which are filled beside it, and the partition and index that hold their vectors."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

from gateway.errors import SpaceExists, SpaceIncomplete, SpaceInUse, SpaceMismatch, SpaceNotFound, SpaceNotReady
from gateway.store.caller import name_actor
from gateway.store.pool import Database
from gateway.store.queries import load_queries
from gateway.store.rows import SpaceRow
from gateway.store.search_plan import BINARY_LIMIT, EXACT_LIMIT, Method, index_for

if TYPE_CHECKING:
    from gateway.store.pool import Connection

MIN_IDLE_S = 30.0
"""A space is dropped no sooner after it was the active one; gateways look for changes every two seconds."""

MAX_CHANGE = 0.2
"""By how much of its size a space may grow or shrink between its verification and its activation."""

_COLUMNS = (
    "space_key, fingerprint, manifest, state, create_time, activate_time, deactivate_time, filling, fill_rate, "
    "fill_error, truncated_chunk_count, verification"
)
_QUERIES = load_queries("spaces.sql")
_VECTORS = load_queries("space_vectors.sql")
# Of the graph while it is built, a vector. Measured: 5,850 and 1,290, by the number of vectors at which pgvector said
# that 48 MB are full. A graph that outgrows its memory goes on through the table, at a fifth of the rate.
_INDEX_BYTES = {"hnsw": 6500, "binary": 1400}
# DDL that waits longer for a lock gives up: whoever comes after it would wait, too.
_LOCK_TIMEOUT = "SET lock_timeout = '3s'"


class SpaceStore:
    """Keeps the spaces and their storage; as the system, or for an administrator's requests (`as_administrator`)."""

    def __init__(
        self, database: Database, *, index_memory_mb: int = 1536, binary_above_count: int = BINARY_LIMIT
    ) -> None:
        """Use `database` for every call.

        Args:
            database: The database.
            index_memory_mb: How much memory of its server building an index may take, MB.
            binary_above_count: Vectors of a space above which its index is the one over signs.
        """
        self._database = database
        self._index_memory_mb = index_memory_mb
        self._binary_above_count = binary_above_count

    async def get_active(self, *, timeout_s: float = 10) -> SpaceRow | None:
        """Get the active space; None before the first `ensure_active`."""
        async with self._database.acquire(timeout_s) as connection:
            record = await connection.fetchrow(_select("get_active_space"))
        return None if record is None else _space_row(record)

    async def get(self, space_key: int, *, timeout_s: float = 10) -> SpaceRow:
        """Get a space.

        Raises:
            SpaceNotFound: There is none of this key (any more).
        """
        async with self._database.acquire(timeout_s) as connection:
            return await _get(connection, space_key)

    async def list(self, *, timeout_s: float = 10) -> list[SpaceRow]:
        """List the spaces, oldest first."""
        async with self._database.acquire(timeout_s) as connection:
            return [_space_row(record) for record in await connection.fetch(_select("list_spaces"))]

    async def ensure_active(self, fingerprint: str, manifest: Mapping[str, Any], *, timeout_s: float = 30) -> SpaceRow:
        """Get the active space. One without vectors, or none, gives way to the one that is given.

        Args:
            fingerprint: 64 hex digits, of the space that the served encoders make.
            manifest: What it was taken over; stored as JSON when the space is new.
            timeout_s: Deadline, seconds.

        Returns:
            The active space; another than that of `fingerprint` when vectors of it are stored.
        """
        async with self._database.acquire(timeout_s) as connection:
            # Almost always there is nothing to change, and the lock would wait for every writer, and they for it.
            active, stays = await _find_active(connection, fingerprint)
            if active is not None and stays:
                return active
            await connection.execute(_QUERIES["lock_spaces"])
            active, stays = await _find_active(connection, fingerprint)
            if active is not None and stays:
                return active
            if active is not None:
                await connection.execute(_QUERIES["lock_for_drop"])
                await connection.execute(_ddl("drop_partition", active.space_key))
                await connection.execute(_QUERIES["delete_space"], active.space_key)
            return await _add(connection, fingerprint, manifest, "ACTIVE")

    async def build(self, fingerprint: str, manifest: Mapping[str, Any], *, timeout_s: float) -> SpaceRow:
        """Add a space beside the active one, with a partition for its vectors.

        Raises:
            SpaceExists: There is a space of this fingerprint.
        """
        async with self._database.acquire(timeout_s) as connection:
            await connection.execute(_QUERIES["lock_spaces"])
            await name_actor(connection)
            try:
                return await _add(connection, fingerprint, manifest, "BUILDING")
            except asyncpg.UniqueViolationError as error:
                raise SpaceExists(
                    f"space {fingerprint} is there already; publish another version of an encoder first"
                ) from error

    async def set_filling(
        self, space_key: int, *, filling: bool, rate: float | None = None, timeout_s: float
    ) -> SpaceRow:
        """Have the chunks without vector embedded in a space, or stop that.

        What was verified before is verified again when the last chunk has its vector.

        Args:
            space_key: The space.
            filling: Whether it is filled.
            rate: Chunks a second at most; None for as many as the encoders take.
            timeout_s: Deadline, seconds.

        Raises:
            SpaceInUse: It is the active one, which is filled by those who index.
            SpaceNotFound: There is none of this key.
        """
        async with self._database.acquire(timeout_s) as connection:
            record = await connection.fetchrow(_select("set_filling"), space_key, filling, rate)
            if record is None:
                space = await _get(connection, space_key)
                raise SpaceInUse(
                    f"space {space.fingerprint} is the active one; indexing fills it"
                    if space.state == "ACTIVE"
                    else f"space {space.fingerprint} is being dropped"
                )
        return _space_row(record)

    async def note_fill_error(self, space_key: int, error: str, *, timeout_s: float = 10) -> None:
        """Keep why the last batch of a fill failed; "" when it did not."""
        async with self._database.acquire(timeout_s) as connection:
            await connection.execute(_QUERIES["set_fill_error"], space_key, error)

    async def add_truncated(self, space_key: int, count: int, *, timeout_s: float = 10) -> None:
        """Count chunks that were cut at an encoder's limit."""
        async with self._database.acquire(timeout_s) as connection:
            await connection.execute(_QUERIES["add_truncated"], space_key, count)

    async def set_verification(self, space_key: int, report: Mapping[str, Any], *, timeout_s: float = 10) -> None:
        """Keep what a verification found: JSON with at least `passed`, a bool, and `chunk_count`."""
        async with self._database.acquire(timeout_s) as connection:
            await connection.execute(_QUERIES["set_verification"], space_key, json.dumps(report))

    async def activate(self, space_key: int, *, above_chunk_count: int = EXACT_LIMIT, timeout_s: float) -> SpaceRow:
        """Make a space the active one. Writers wait meanwhile; the former one is kept, filled, for a roll-back.

        Args:
            space_key: The space; nothing happens when it is active already.
            above_chunk_count: As in `build_hnsw_index`.
            timeout_s: Deadline, seconds; when it passes nothing has changed.

        Raises:
            SpaceNotFound: There is none of this key.
            SpaceIncomplete: Chunks have no vector in it.
            SpaceNotReady: It did not pass its verification, or has changed too much since.
        """
        async with self._database.acquire(timeout_s) as connection:
            await connection.execute(_QUERIES["lock_spaces"])
            await name_actor(connection)
            space = await _get(connection, space_key)
            if space.state == "ACTIVE":
                return space
            if space.state == "DROPPING":
                raise SpaceNotReady(f"space {space.fingerprint} is being dropped")
            if space.state == "BUILDING" and not (space.verification or {}).get("passed"):
                why = "did not pass its verification" if space.verification else "was not verified yet"
                raise SpaceNotReady(f"space {space.fingerprint} {why}; `duovec space list` says more")
            pending = await connection.fetchval(_VECTORS["count_pending"], space_key)
            if space.state == "BUILDING":
                # What was active before was verified by its use, and must be there at once: its index is built then.
                await self._check_verdict_holds(connection, space, pending, above_chunk_count)
            if pending:
                raise SpaceIncomplete(
                    f"{pending} chunks have no vector in space {space.fingerprint} yet; re-embed it, or wait"
                )
            await connection.execute(_QUERIES["deactivate_space"])
            return _space_row(await connection.fetchrow(_select("activate_space"), space_key))

    async def _check_verdict_holds(
        self, connection: "Connection", space: SpaceRow, pending: int, above_chunk_count: int
    ) -> None:
        """Refuse a space that is another by now than the one that was verified."""
        verified = (space.verification or {})["chunk_count"]
        index, total = await self._index_for(connection, space.space_key, above_chunk_count)
        chunk_count = total + pending
        if abs(chunk_count - verified) > MAX_CHANGE * verified:
            why = f"{verified:,} chunks were there when space {space.fingerprint} was verified, {chunk_count:,} are now"
        elif index is not Method.EXACT and not await _is_index_valid(connection, space.space_key, index):
            why = f"a codebase has outgrown exact search since space {space.fingerprint} was verified without an index"
        else:
            return
        raise SpaceNotReady(f"{why}; verify it again: `duovec space reembed {space.fingerprint[:12]}`")

    async def _index_for(self, connection: "Connection", space_key: int, above_chunk_count: int) -> tuple[Method, int]:
        """Which index a space needs, EXACT for none, and how many vectors it has."""
        counts = await connection.fetchrow(_QUERIES["count_vectors"], space_key)
        if counts is None:
            raise RuntimeError("an aggregate gave no row")
        index = index_for(
            counts["total"], counts["largest"], exact_limit=above_chunk_count, binary_limit=self._binary_above_count
        )
        return index, counts["total"]

    async def find_rollback_target(self, *, timeout_s: float = 10) -> int:
        """Get the key of the space that was active before.

        Raises:
            SpaceNotFound: None is kept.
        """
        async with self._database.acquire(timeout_s) as connection:
            space_key: int | None = await connection.fetchval(_QUERIES["get_rollback_target"])
        if space_key is None:
            raise SpaceNotFound("no space is kept to roll back to")
        return space_key

    async def drop(self, space_key: int, *, timeout_s: float) -> None:
        """Drop a space with all its vectors; repeating it ends what was broken off.

        Raises:
            SpaceInUse: It is the active one, or was until `MIN_IDLE_S` ago, or searches hold its table.
            SpaceNotFound: There is none of this key.
        """
        async with self._database.acquire(timeout_s, autocommit=True) as connection:
            async with connection.transaction():
                await connection.execute(_QUERIES["lock_spaces"])
                await name_actor(connection)
                space = await _get(connection, space_key)
                await _check_may_drop(connection, space)
                await connection.execute(_QUERIES["begin_drop"], space_key)
            await connection.execute(_LOCK_TIMEOUT)
            if await connection.fetchval(_QUERIES["is_other_detach_pending"], space_key):
                raise SpaceInUse(
                    f"space {space.fingerprint} cannot go before the drop of another one has ended; "
                    "drop that one again: `duovec space list` shows it as DROPPING"
                )
            try:
                if await connection.fetchval(_QUERIES["is_detach_pending"], space_key):
                    await connection.execute(_ddl("finalize_detach", space_key))
                elif await connection.fetchval(_QUERIES["has_partition"], space_key):
                    await connection.execute(_ddl("detach_partition", space_key))
                async with connection.transaction():
                    await connection.execute(_QUERIES["lock_for_drop"])
                    await connection.execute(_ddl("drop_partition", space_key))
            except asyncpg.LockNotAvailableError as error:
                raise SpaceInUse(
                    f"the vectors of space {space.fingerprint} are being read, or their index built; try again"
                ) from error
            await connection.execute(_QUERIES["delete_space"], space_key)

    @asynccontextmanager
    async def fill_lock(self, space_key: int, *, timeout_s: float) -> AsyncIterator[bool]:
        """Let one gateway at a time fill a space; False in the others.

        The database gives the lock back when the connection ends, however that happens.
        """
        async with self._database.acquire(timeout_s, autocommit=True) as connection:
            taken: bool = await connection.fetchval(_QUERIES["try_lock_fill"], space_key)
            yield taken
            if taken:
                await connection.execute(_QUERIES["unlock_fill"], space_key)

    async def build_hnsw_index(
        self,
        space_key: int,
        *,
        above_chunk_count: int = EXACT_LIMIT,
        timeout_s: float = 24 * 3600,
    ) -> bool | None:
        """Build the HNSW index of a space once a codebase is too large for exact search. Repeating it is harmless.

        The index is not made with the partition, because an insert into it costs 2 ms of a core over signs, and 3.5
        over whole vectors, while a codebase up to `EXACT_LIMIT` never reads it, and building it afterwards 0.3 ms a
        vector. Reads and writes go on during the build. The two replace each other.

        Args:
            space_key: The space.
            above_chunk_count: Build when some codebase has more vectors than this; -1 builds at once.
            timeout_s: Deadline, seconds. A build that is broken off is made anew by the next call.

        Returns:
            True when this call built an index; False when it is there or not needed; None while another builds it.
        """
        async with self._database.acquire(timeout_s, autocommit=True) as connection:
            method, vector_count = await self._index_for(connection, space_key, above_chunk_count)
            if method is Method.EXACT or await _is_index_valid(connection, space_key, method):
                return False
            index = method.lower()
            # The pool's reset frees the lock when the build fails.
            if not await connection.fetchval(_QUERIES["try_lock_hnsw_build"], space_key):
                return None
            if await _is_index_valid(connection, space_key, method):
                await connection.execute(_QUERIES["unlock_hnsw_build"], space_key)
                return False
            await connection.execute(_ddl(f"drop_{index}_index", space_key))
            needed_mb = vector_count * _INDEX_BYTES[index] // 2**20
            await connection.execute(_QUERIES["allow_memory"], min(needed_mb, self._index_memory_mb))
            await connection.execute(_ddl(f"create_{index}_index", space_key))
            other = "hnsw" if index == "binary" else "binary"
            await connection.execute(_ddl(f"drop_{other}_index", space_key))
            await connection.execute(_ddl("vacuum_partition", space_key))
            await connection.execute(_QUERIES["unlock_hnsw_build"], space_key)
        return True


async def hold_active(connection: "Connection", space_key: int) -> None:
    """Let the transaction write into a space only while it is the active one; it stays so until the end.

    Raises:
        SpaceMismatch: Another space is active by now; nothing was written.
    """
    if await connection.fetchval(_QUERIES["get_held_space_state"], space_key) != "ACTIVE":
        raise another_is_active(space_key)


async def hold(connection: "Connection", space_key: int) -> None:
    """Let the transaction write into a space that is filled, whatever its state.

    Raises:
        SpaceNotFound: It was dropped.
    """
    if await connection.fetchval(_QUERIES["get_held_space_state"], space_key) in {None, "DROPPING"}:
        raise SpaceNotFound(f"space {space_key} was dropped")


async def require_active(connection: "Connection", space_key: int) -> None:
    """Go on only if a space is the active one at this moment.

    Raises:
        SpaceMismatch: Another is.
    """
    if await connection.fetchval(_QUERIES["get_active_space_key"]) != space_key:
        raise another_is_active(space_key)


async def _is_index_valid(connection: "Connection", space_key: int, index: Method) -> bool:
    """Whether an index of a space is complete; one that is missing or was broken off is not."""
    return bool(await connection.fetchval(_QUERIES["is_index_valid"], space_key, index.lower()))


async def _check_may_drop(connection: "Connection", space: SpaceRow) -> None:
    if space.state == "ACTIVE":
        raise SpaceInUse(f"space {space.fingerprint} is the active one; activate another first")
    idle_s = await connection.fetchval(_QUERIES["idle_time"], space.space_key)
    if idle_s is not None and idle_s < MIN_IDLE_S:
        raise SpaceInUse(
            f"space {space.fingerprint} was the active one until {idle_s:.0f} s ago, and requests may still use it; "
            f"drop it in {MIN_IDLE_S - idle_s:.0f} s"
        )


def another_is_active(space_key: int) -> SpaceMismatch:
    """The error for who goes on in a space that was the active one."""
    return SpaceMismatch(f"space {space_key} is not the active one any more; try again")


async def _find_active(connection: "Connection", fingerprint: str) -> tuple[SpaceRow | None, bool]:
    """The active space, and whether it stays so beside encoders that make the space of `fingerprint`."""
    spaces = [_space_row(record) for record in await connection.fetch(_select("list_spaces"))]
    active = next((space for space in spaces if space.state == "ACTIVE"), None)
    stays = active is not None and (
        active.fingerprint == fingerprint
        # Beside others it is not the first start but a choice that was made.
        or len(spaces) > 1
        or await connection.fetchval(_QUERIES["has_embeddings"], active.space_key)
    )
    return active, stays


async def _get(connection: "Connection", space_key: int) -> SpaceRow:
    record = await connection.fetchrow(_select("get_space"), space_key)
    if record is None:
        raise SpaceNotFound(f"there is no space {space_key}")
    return _space_row(record)


async def _add(connection: "Connection", fingerprint: str, manifest: Mapping[str, Any], state: str) -> SpaceRow:
    space = _space_row(await connection.fetchrow(_select("add_space"), fingerprint, json.dumps(manifest), state))
    for name in ("create_partition", "store_vectors_inline", "tune_vacuum", "attach_partition"):
        await connection.execute(_ddl(name, space.space_key))
    return space


def _select(name: str) -> str:
    return _QUERIES[name].format(columns=_COLUMNS)


def _ddl(name: str, space_key: int) -> str:
    return _QUERIES[name].format(space_key=int(space_key))


def _space_row(record: asyncpg.Record | None) -> SpaceRow:
    if record is None:
        raise RuntimeError("a statement that returns a space gave none")
    verification = record["verification"]
    return SpaceRow(
        **{
            **record,
            "manifest": json.loads(record["manifest"]),
            "verification": None if verification is None else json.loads(verification),
        }
    )
