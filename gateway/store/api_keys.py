"""API keys in the database: made, rotated, revoked, listed. The secret of one is given out once, when it is made."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from gateway.errors import ApiKeyNotFound, InvalidInput
from gateway.store.access import ApiKeyRow
from gateway.store.api_key import ApiKey
from gateway.store.caller import current_key_id
from gateway.store.pool import Database
from gateway.store.principals import find_principal, require_admin
from gateway.store.queries import load_queries

if TYPE_CHECKING:
    from gateway.store.pool import Connection

_QUERIES = load_queries("principals.sql")


class ApiKeyStore:
    """Everyone's own keys, and for administrators everybody's."""

    def __init__(self, database: Database) -> None:
        """Use `database` for every call."""
        self._database = database

    async def create(
        self, principal_id: str, display_name: str, expire_time: datetime | None, *, timeout_s: float
    ) -> tuple[ApiKey, ApiKeyRow]:
        """Make a key.

        Args:
            principal_id: Whose; "" stands for the caller, and another's takes an administrator.
            display_name: What it is for; at most 256 characters.
            expire_time: None for never. A key for oneself ends with the calling key at the latest, so that a key lent
                for a day does not become one for ever.
            timeout_s: Deadline, seconds.

        Raises:
            AdminRequired: The principal is another, and the caller no administrator.
            InvalidInput: The key would outlive the calling one.
            PrincipalNotFound: There is no such principal, or the caller may not see it.
        """
        async with self._database.acquire(timeout_s) as connection:
            principal_key = await _holder(connection, principal_id)
            own = principal_key == await _holder(connection, "")
            return await _add(connection, principal_key, display_name, expire_time, own=own)

    async def list(self, principal_id: str, after: str, limit: int, *, timeout_s: float) -> list[ApiKeyRow]:
        """List the keys of a principal by id, revoked and expired ones too.

        Args:
            principal_id: Whose; "" stands for the caller, and another's takes an administrator.
            after: The last id of the page before; "" for the first page.
            limit: Rows at most.
            timeout_s: Deadline, seconds.

        Raises:
            AdminRequired: The principal is another, and the caller no administrator.
            PrincipalNotFound: There is no such principal, or the caller may not see it.
        """
        async with self._database.acquire(timeout_s) as connection:
            principal_key = await _holder(connection, principal_id)
            records = await connection.fetch(_QUERIES["list_api_keys"], principal_key, after, limit)
        return [ApiKeyRow(**record) for record in records]

    async def rotate(
        self, key_id: str, expire_time: datetime | None, old_key_lifetime: timedelta, *, timeout_s: float
    ) -> tuple[ApiKey, ApiKeyRow]:
        """Make a key in place of another, which goes on for a while.

        Args:
            key_id: The key to replace, the caller's own, or anybody's for an administrator.
            expire_time: As for `create`; None takes that of the old key.
            old_key_lifetime: How long the old key is still valid.
            timeout_s: Deadline, seconds.

        Raises:
            ApiKeyNotFound: There is no such key, the caller may not see it, or it is no longer valid.
            InvalidInput: The key would outlive the calling one.
        """
        async with self._database.acquire(timeout_s) as connection:
            old = await connection.fetchrow(_QUERIES["lock_api_key"], key_id)
            if old is None:
                raise _not_found(key_id)
            if old["revoked"] or old["expired"]:
                raise ApiKeyNotFound(f"API key {key_id!r} is not valid any more; create another")
            added = await _add(
                connection,
                old["principal_key"],
                old["display_name"],
                expire_time or old["expire_time"],
                own=old["principal_key"] == await _holder(connection, ""),
            )
            await connection.execute(_QUERIES["shorten_api_key"], key_id, old_key_lifetime)
        return added

    async def revoke(self, key_id: str, *, timeout_s: float) -> ApiKeyRow:
        """End a key now, for every request that begins from here on, and for every stream at its next batch.

        Args:
            key_id: The caller's own, or anybody's for an administrator. One that is revoked stays so.
            timeout_s: Deadline, seconds.

        Raises:
            ApiKeyNotFound: There is no such key, or the caller may not see it.
        """
        async with self._database.acquire(timeout_s) as connection:
            if await connection.fetchval(_QUERIES["revoke_api_key"], key_id) is None:
                raise _not_found(key_id)
            return await _get(connection, key_id)


async def _holder(connection: "Connection", principal_id: str) -> int:
    """The key of a principal whose API keys the caller may handle."""
    caller = await find_principal(connection, "")
    if principal_id in {"", caller.principal_id}:
        return caller.principal_key
    other = await find_principal(connection, principal_id)
    await require_admin(connection)
    return other.principal_key


async def _add(
    connection: "Connection", principal_key: int, display_name: str, expire_time: datetime | None, *, own: bool
) -> tuple[ApiKey, ApiKeyRow]:
    if own:
        limit = (await _get(connection, current_key_id())).expire_time
        expire_time = expire_time or limit
        if limit is not None and expire_time is not None and expire_time > limit:
            raise InvalidInput("expire_time", f"is after {limit.isoformat()}, when the key of this call expires")
    key = ApiKey.generate()
    await connection.execute(
        _QUERIES["create_api_key"], key.key_id, principal_key, key.secret_sha256, display_name, expire_time
    )
    return key, await _get(connection, key.key_id)


async def _get(connection: "Connection", key_id: str) -> ApiKeyRow:
    record = await connection.fetchrow(_QUERIES["get_api_key"], key_id)
    if record is None:
        raise _not_found(key_id)
    return ApiKeyRow(**record)


def _not_found(key_id: str) -> ApiKeyNotFound:
    return ApiKeyNotFound(f"API key {key_id!r} does not exist, or is not shown to you")
