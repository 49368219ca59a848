"""Principals with keys and grants for the tests, put into the database by the system."""

from gateway.store.api_key import ApiKey
from gateway.store.pool import Database


async def make_caller(database: Database, principal_id: str, *, is_admin: bool = False) -> ApiKey:
    """Add a principal with a key that never expires."""
    key = ApiKey.generate()
    async with database.acquire(5) as connection:
        principal_key = await connection.fetchval(
            "INSERT INTO principals (principal_id, display_name, is_admin) VALUES ($1, $1, $2) RETURNING principal_key",
            principal_id,
            is_admin,
        )
        await connection.execute(
            "INSERT INTO api_keys (key_id, principal_key, secret_sha256, display_name) VALUES ($1, $2, $3, '')",
            key.key_id,
            principal_key,
            key.secret_sha256,
        )
    return key


async def set_role(database: Database, key: ApiKey, codebase_key: int, role: str | None) -> None:
    """Give the principal of a key a role on a codebase, or take it away with None."""
    async with database.acquire(5) as connection:
        await connection.execute(
            "DELETE FROM grants WHERE codebase_key = $2"
            " AND principal_key = (SELECT principal_key FROM api_keys WHERE key_id = $1)",
            key.key_id,
            codebase_key,
        )
        if role is not None:
            await connection.execute(
                "INSERT INTO grants (principal_key, codebase_key, role)"
                " SELECT principal_key, $2, $3::text::codebase_role FROM api_keys WHERE key_id = $1",
                key.key_id,
                codebase_key,
                role,
            )
