"""Grants: which role a principal has on a codebase."""

from typing import TYPE_CHECKING

from gateway.errors import GrantNotFound, PrincipalNotFound
from gateway.store.access import GrantRow, Role
from gateway.store.codebases import require_role
from gateway.store.pool import Database
from gateway.store.queries import load_queries

if TYPE_CHECKING:
    from gateway.store.pool import Connection

_QUERIES = load_queries("grants.sql")


class GrantStore:
    """Gives, takes and lists the grants on a codebase, for its owners and administrators.

    Every method raises NotFound where the caller may not see the codebase, and PermissionDenied where the caller does
    not own it.
    """

    def __init__(self, database: Database) -> None:
        """Use `database` for every call."""
        self._database = database

    async def set(self, codebase_id: str, principal_id: str, role: Role, *, timeout_s: float) -> GrantRow:
        """Give a principal a role on a codebase, in place of the one that it had.

        Args:
            codebase_id: The codebase.
            principal_id: Any principal, also one that the caller does not see.
            role: READ, WRITE or OWNER; each allows what those before it do.
            timeout_s: Deadline, seconds.

        Raises:
            PrincipalNotFound: There is no such principal.
        """
        async with self._database.acquire(timeout_s) as connection:
            codebase_key = await require_role(connection, codebase_id, "OWNER")
            principal_key = await _principal_key(connection, principal_id)
            create_time = await connection.fetchval(_QUERIES["set_grant"], principal_key, codebase_key, role)
        return GrantRow(principal_id, role, create_time)

    async def delete(self, codebase_id: str, principal_id: str, *, timeout_s: float) -> None:
        """Take a principal's role on a codebase away, from its next request on.

        Raises:
            GrantNotFound: The principal has none.
        """
        async with self._database.acquire(timeout_s) as connection:
            codebase_key = await require_role(connection, codebase_id, "OWNER")
            principal_key = await _principal_key(connection, principal_id)
            if await connection.fetchval(_QUERIES["delete_grant"], principal_key, codebase_key) is None:
                raise GrantNotFound(f"principal {principal_id!r} has no grant on codebase {codebase_id!r}")

    async def list(self, codebase_id: str, after: str, limit: int, *, timeout_s: float) -> list[GrantRow]:
        """List the grants on a codebase by principal.

        Args:
            codebase_id: The codebase.
            after: The last principal of the page before; "" for the first page.
            limit: Rows at most.
            timeout_s: Deadline, seconds.
        """
        async with self._database.acquire(timeout_s) as connection:
            codebase_key = await require_role(connection, codebase_id, "OWNER")
            records = await connection.fetch(_QUERIES["list_grants"], codebase_key, after, limit)
        return [GrantRow(**record) for record in records]


async def _principal_key(connection: "Connection", principal_id: str) -> int:
    key: int | None = await connection.fetchval(_QUERIES["find_principal"], principal_id)
    if key is None:
        raise PrincipalNotFound(f"principal {principal_id!r} does not exist")
    return key
