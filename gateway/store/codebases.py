"""Codebases: the unit of search and of permission."""

import asyncpg

from gateway.errors import AlreadyExists, NotFound
from gateway.store.pool import Database
from gateway.store.queries import load_queries
from gateway.store.rows import CodebaseRow

_QUERIES = load_queries("codebases.sql")


class CodebaseStore:
    """Creates, reads and deletes codebases."""

    def __init__(self, database: Database) -> None:
        """Use `database` for every call."""
        self._database = database

    async def create(self, codebase_id: str, display_name: str, *, timeout_s: float) -> CodebaseRow:
        """Add a codebase.

        Args:
            codebase_id: 1 to 63 of a-z, 0-9 and "-", a letter or digit first and last.
            display_name: 1 to 256 characters.
            timeout_s: Deadline, seconds.

        Raises:
            AlreadyExists: A codebase of this id exists.
        """
        async with self._database.acquire(timeout_s) as connection:
            try:
                record = await connection.fetchrow(_QUERIES["create_codebase"], codebase_id, display_name)
            except asyncpg.UniqueViolationError as error:
                raise AlreadyExists(f"codebase {codebase_id!r} exists already") from error
        if record is None:
            raise RuntimeError("INSERT ... RETURNING gave no row")
        return CodebaseRow(**record)

    async def get(self, codebase_id: str, *, space_key: int, timeout_s: float) -> CodebaseRow:
        """Get a codebase, its chunks counted in one space.

        Raises:
            NotFound: There is no codebase of this id.
        """
        async with self._database.acquire(timeout_s) as connection:
            record = await connection.fetchrow(_QUERIES["get_codebase"], codebase_id, space_key)
        if record is None:
            raise _not_found(codebase_id)
        return CodebaseRow(**record)

    async def list(self, after: str, limit: int, *, space_key: int, timeout_s: float) -> list[CodebaseRow]:
        """List codebases by id, their chunks counted in one space.

        Args:
            after: The last id of the page before; "" for the first page.
            limit: Rows at most.
            space_key: The space to count in.
            timeout_s: Deadline, seconds.
        """
        async with self._database.acquire(timeout_s) as connection:
            records = await connection.fetch(_QUERIES["list_codebases"], after, space_key, limit)
        return [CodebaseRow(**record) for record in records]

    async def get_key(self, codebase_id: str, *, timeout_s: float) -> int:
        """Get the key of a codebase without counting its chunks.

        Raises:
            NotFound: There is no codebase of this id.
        """
        async with self._database.acquire(timeout_s) as connection:
            key: int | None = await connection.fetchval(_QUERIES["get_codebase_key"], codebase_id)
        if key is None:
            raise _not_found(codebase_id)
        return key

    async def delete(self, codebase_id: str, *, timeout_s: float) -> int:
        """Delete a codebase with all its chunks and their vectors in every space.

        Returns:
            How many chunks were deleted.

        Raises:
            NotFound: There is no codebase of this id.
        """
        async with self._database.acquire(timeout_s) as connection:
            key = await connection.fetchval(_QUERIES["lock_codebase"], codebase_id)
            if key is None:
                raise _not_found(codebase_id)
            chunk_count: int = await connection.fetchval(_QUERIES["count_chunks"], key)
            await connection.execute(_QUERIES["delete_codebase"], key)
        return chunk_count


def _not_found(codebase_id: str) -> NotFound:
    return NotFound(f"codebase {codebase_id!r} does not exist")
