"""Principals: who may hold an API key."""

from typing import TYPE_CHECKING

import asyncpg

from gateway.errors import AdminRequired, PrincipalExists, PrincipalNotFound
from gateway.store.access import PrincipalRow, Quota
from gateway.store.pool import Database
from gateway.store.queries import load_queries

if TYPE_CHECKING:
    from gateway.store.pool import Connection

_QUERIES = load_queries("principals.sql")


class PrincipalStore:
    """Creates, reads and deletes principals, as far as the caller may."""

    def __init__(self, database: Database) -> None:
        """Use `database` for every call."""
        self._database = database

    async def check_key(self, *, timeout_s: float) -> None:
        """Prove the key that is acted with.

        Raises:
            Unauthenticated: It is unknown, or revoked or expired by now.
        """
        await self._database.prove_caller(timeout_s)

    async def require_admin(self, *, timeout_s: float) -> None:
        """Go on only for an administrator.

        Raises:
            AdminRequired: The caller is none.
        """
        async with self._database.acquire(timeout_s) as connection:
            await require_admin(connection)

    async def create(self, principal_id: str, display_name: str, *, is_admin: bool, timeout_s: float) -> PrincipalRow:
        """Add a principal, which has neither keys nor grants yet.

        Args:
            principal_id: 1 to 63 of a-z, 0-9 and "-", a letter or digit first and last.
            display_name: 1 to 256 characters.
            is_admin: May do everything, on every codebase.
            timeout_s: Deadline, seconds.

        Raises:
            AdminRequired: The caller is no administrator.
            PrincipalExists: A principal of this id exists.
        """
        async with self._database.acquire(timeout_s) as connection:
            await require_admin(connection)
            try:
                record = await connection.fetchrow(_QUERIES["create_principal"], principal_id, display_name, is_admin)
            except asyncpg.UniqueViolationError as error:
                raise PrincipalExists(f"principal {principal_id!r} exists already") from error
        if record is None:
            raise RuntimeError("INSERT ... RETURNING gave no row")
        return PrincipalRow(**record)

    async def get(self, principal_id: str, *, timeout_s: float) -> PrincipalRow:
        """Get a principal; "" stands for the caller.

        Raises:
            PrincipalNotFound: There is none of this id, or the caller may not see it.
        """
        async with self._database.acquire(timeout_s) as connection:
            return await find_principal(connection, principal_id)

    async def list(self, after: str, limit: int, *, timeout_s: float) -> list[PrincipalRow]:
        """List the principals that the caller sees, by id.

        Args:
            after: The last id of the page before; "" for the first page.
            limit: Rows at most.
            timeout_s: Deadline, seconds.
        """
        async with self._database.acquire(timeout_s) as connection:
            records = await connection.fetch(_QUERIES["list_principals"], after, limit)
        return [PrincipalRow(**record) for record in records]

    async def set_quota(self, principal_id: str, quota: Quota, *, timeout_s: float) -> PrincipalRow:
        """Limit what a principal may ask for, from its next call on.

        Raises:
            AdminRequired: The caller is no administrator.
            PrincipalNotFound: There is none of this id.
        """
        async with self._database.acquire(timeout_s) as connection:
            await require_admin(connection)
            record = await connection.fetchrow(
                _QUERIES["set_quota"], principal_id, quota.requests_per_s, quota.tokens_per_minute
            )
        if record is None:
            raise PrincipalNotFound(f"principal {principal_id!r} does not exist")
        return PrincipalRow(**record)

    async def delete(self, principal_id: str, *, timeout_s: float) -> None:
        """Delete a principal with its keys and grants; its codebases stay.

        Raises:
            AdminRequired: The caller is no administrator.
            PrincipalNotFound: There is none of this id.
        """
        async with self._database.acquire(timeout_s) as connection:
            await require_admin(connection)
            if await connection.fetchval(_QUERIES["delete_principal"], principal_id) is None:
                raise PrincipalNotFound(f"principal {principal_id!r} does not exist")


async def find_principal(connection: "Connection", principal_id: str) -> PrincipalRow:
    """Get a principal that the caller of this transaction sees; "" stands for the caller.

    Raises:
        PrincipalNotFound: There is none of this id, or the caller may not see it.
    """
    if principal_id:
        record = await connection.fetchrow(_QUERIES["get_principal"], principal_id)
    else:
        record = await connection.fetchrow(_QUERIES["whoami"])
    if record is None:
        raise PrincipalNotFound(f"principal {principal_id!r} does not exist, or is not shown to you")
    return PrincipalRow(**record)


async def require_admin(connection: "Connection") -> PrincipalRow:
    """Get the caller of this transaction, who must be an administrator.

    Raises:
        AdminRequired: The caller is not.
    """
    caller = await find_principal(connection, "")
    if not caller.is_admin:
        raise AdminRequired(f"only an administrator may do this, and {caller.principal_id!r} is none")
    return caller
