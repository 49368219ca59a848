"""Codebases: the unit of search and of permission."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import asyncpg

from gateway.errors import AlreadyExists, NotFound, PermissionDenied, RevisionChanged
from gateway.store.access import Role
from gateway.store.pool import Database
from gateway.store.queries import load_queries
from gateway.store.rows import CodebaseRow, NewRevision, RevisionRow

if TYPE_CHECKING:
    from gateway.store.pool import Connection

_QUERIES = load_queries("codebases.sql")
_RANK: dict[Role, int] = {"READ": 0, "WRITE": 1, "OWNER": 2}


class CodebaseStore:
    """Creates, reads and deletes codebases."""

    def __init__(self, database: Database) -> None:
        """Use `database` for every call."""
        self._database = database

    async def create(self, codebase_id: str, display_name: str, *, timeout_s: float) -> CodebaseRow:
        """Add a codebase, whose owner the caller becomes.

        Args:
            codebase_id: 1 to 63 of a-z, 0-9 and "-", a letter or digit first and last.
            display_name: 1 to 256 characters.
            timeout_s: Deadline, seconds.

        Raises:
            AlreadyExists: The id is taken, be it by a codebase that the caller may not see.
        """
        async with self._database.acquire(timeout_s) as connection:
            try:
                key = await connection.fetchval(_QUERIES["create_codebase"], codebase_id, display_name)
            except asyncpg.UniqueViolationError as error:
                raise AlreadyExists(f"the codebase id {codebase_id!r} is taken; choose another") from error
            record = await connection.fetchrow(_QUERIES["get_new_codebase"], key)
        if record is None:
            raise RuntimeError("the codebase that was created is not there")
        return CodebaseRow(**record)

    async def get(self, codebase_id: str, *, space_key: int, timeout_s: float) -> CodebaseRow:
        """Get a codebase, its chunks counted in one space.

        Raises:
            NotFound: There is no codebase of this id, or the caller may not see it.
        """
        async with self._database.acquire(timeout_s) as connection:
            record = await connection.fetchrow(_QUERIES["get_codebase"], codebase_id, space_key)
            if record is None:
                raise not_found(codebase_id)
            revisions = await _list_revisions(connection, [record["codebase_key"]])
        return _with_revision(record, revisions)

    async def list(self, after: str, limit: int, *, space_key: int, timeout_s: float) -> list[CodebaseRow]:
        """List the codebases that the caller may see by id, their chunks counted in one space.

        Args:
            after: The last id of the page before; "" for the first page.
            limit: Rows at most.
            space_key: The space to count in.
            timeout_s: Deadline, seconds.
        """
        async with self._database.acquire(timeout_s) as connection:
            records = await connection.fetch(_QUERIES["list_codebases"], after, space_key, limit)
            revisions = await _list_revisions(connection, [record["codebase_key"] for record in records])
        return [_with_revision(record, revisions) for record in records]

    async def get_key(self, codebase_id: str, *, role: Role = "READ", timeout_s: float) -> int:
        """Get the key of a codebase on which the caller has a role, or a higher one.

        Raises:
            NotFound: There is no codebase of this id, or the caller may not see it.
            PermissionDenied: The caller has a lower role on it.
        """
        async with self._database.acquire(timeout_s) as connection:
            return await require_role(connection, codebase_id, role)

    async def begin_update(self, codebase_id: str, *, timeout_s: float) -> tuple[int, RevisionRow | None]:
        """Begin an update of a codebase: `set_revision` will know whether anybody else wrote into it since.

        Returns:
            The update's number, and what is recorded as it begins.

        Raises:
            NotFound: There is no codebase of this id, or the caller may not see it.
            PermissionDenied: The caller may not write into it.
        """
        async with self._database.acquire(timeout_s) as connection:
            key = await require_role(connection, codebase_id, "WRITE")
            await _lock_revision(connection, key)
            number: int = await connection.fetchval(_QUERIES["begin_update"], key)
            revisions = await _list_revisions(connection, [key])
        return number, revisions.get(key)

    async def set_revision(
        self,
        codebase_id: str,
        revision: NewRevision,
        *,
        expected_version: int | None,
        update_number: int = 0,
        timeout_s: float,
    ) -> RevisionRow:
        """Record what a codebase holds, in place of what was recorded before; `ChunkStore` notes what changes later.

        Args:
            codebase_id: The codebase.
            revision: Its commit.
            expected_version: The version that the caller began from, 0 for none; None for any.
            update_number: The update that ends with this; 0 for none.
            timeout_s: Deadline, seconds.

        Raises:
            RevisionChanged: Another version is recorded by now, which counts as outdated from here on; or others wrote,
                or began another update, since the update began, and it is not this revision that is recorded.
            NotFound: There is no codebase of this id, or the caller may not see it.
            PermissionDenied: The caller may not write into it.
        """
        record: asyncpg.Record | None = None
        async with self._database.acquire(timeout_s) as connection:
            key = await require_role(connection, codebase_id, "WRITE")
            # By a lock of its own, as before the first revision there is no row to lock.
            await _lock_revision(connection, key)
            version: int = await connection.fetchval(_QUERIES["get_revision_version"], key)
            alone = not update_number or await connection.fetchval(_QUERIES["is_undisturbed"], key, update_number)
            columns = (
                revision.commit_id,
                revision.folder,
                revision.branch,
                revision.commit_time,
                revision.modified,
            )
            if not alone:
                # Perhaps it was recorded before, and the reply was lost.
                record = await connection.fetchrow(_QUERIES["find_recorded"], key, *columns)
            elif expected_version in {None, version}:
                await connection.execute(_QUERIES["end_update"], key)
                record = await connection.fetchrow(_QUERIES["set_revision"], key, *columns)
            else:
                # Both have written, and nobody knows in which order. Committed, since the error comes after the block.
                await outdate_revision(connection, key, update_number)
        if not alone and record is None:
            raise RevisionChanged(
                f"others wrote into codebase {codebase_id!r}, or began to update it, since this update began; "
                "run it again"
            )
        if record is None:
            raise RevisionChanged(
                f"another update of codebase {codebase_id!r} ended meanwhile: it has revision {version}, "
                f"and this update began from {expected_version}; run it again"
            )
        return RevisionRow(**record)

    async def delete(self, codebase_id: str, *, timeout_s: float) -> int:
        """Delete a codebase with all its chunks and their vectors in every space.

        Returns:
            How many chunks were deleted.

        Raises:
            NotFound: There is no codebase of this id, or the caller may not see it.
            PermissionDenied: The caller does not own it.
        """
        async with self._database.acquire(timeout_s) as connection:
            # Before its row, as writers do: else each could wait for the other.
            await connection.execute(_QUERIES["refuse_writers"], await require_role(connection, codebase_id, "OWNER"))
            key = await connection.fetchval(_QUERIES["lock_codebase"], codebase_id)
            if key is None:
                raise not_found(codebase_id)
            chunk_count: int = await connection.fetchval(_QUERIES["count_chunks"], key)
            await connection.execute(_QUERIES["delete_codebase"], key)
        return chunk_count


async def require_role(connection: "Connection", codebase_id: str, role: Role) -> int:
    """Go on only if the caller of this transaction has a role on a codebase, or a higher one.

    Returns:
        The codebase's key.

    Raises:
        NotFound: There is no codebase of this id, or the caller may not see it.
        PermissionDenied: The caller has a lower role on it.
    """
    record = await connection.fetchrow(_QUERIES["get_codebase_key"], codebase_id)
    if record is None:
        raise not_found(codebase_id)
    held: Role = record["role"]
    if _RANK[held] < _RANK[role]:
        raise PermissionDenied(f"this takes the role {role} on codebase {codebase_id!r}; yours is {held}")
    key: int = record["codebase_key"]
    return key


async def _lock_revision(connection: "Connection", codebase_key: int) -> None:
    if not await connection.fetchval(_QUERIES["lock_revision"], codebase_key):
        raise NotFound("the codebase is being deleted")


async def outdate_revision(connection: "Connection", codebase_key: int, update_number: int) -> None:
    """Note that an update, or with 0 somebody else, writes chunks: they are not those of the revision any more."""
    await connection.execute(_QUERIES["outdate_revision"], codebase_key, update_number)


async def _list_revisions(connection: "Connection", codebase_keys: Sequence[int]) -> dict[int, RevisionRow]:
    rows = [dict(record) for record in await connection.fetch(_QUERIES["list_revisions"], list(codebase_keys))]
    return {row.pop("codebase_key"): RevisionRow(**row) for row in rows}


def _with_revision(record: asyncpg.Record, revisions: dict[int, RevisionRow]) -> CodebaseRow:
    return CodebaseRow(**record, revision=revisions.get(record["codebase_key"]))


def not_found(codebase_id: str) -> NotFound:
    """What a codebase is to who may not see it, be it there or not."""
    return NotFound(f"codebase {codebase_id!r} does not exist")
