"""The first administrator's key: taken from the operator, or made and left in a file."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from gateway.errors import StartupError
from gateway.store.api_key import ApiKey
from gateway.store.pool import Database
from gateway.store.queries import load_queries

FIRST_ADMIN = "admin"

if TYPE_CHECKING:
    from gateway.store.pool import Connection

_QUERIES = load_queries("principals.sql")


async def ensure_admin_key(
    database: Database, *, given: ApiKey | None = None, file: Path | None = None, timeout_s: float = 10
) -> None:
    """See to it that somebody can administer the service.

    With `file`, that file holds a valid administrator's key afterwards: where it does not, a new one is made. Without,
    `given` becomes the key of the principal "admin" unless an administrator has a valid key; one that was revoked does
    not come back.

    Args:
        database: As the system.
        given: The operator's own choice.
        file: Where to leave a key that is made, readable by this account only (mode 0600).
        timeout_s: Deadline, seconds.

    Raises:
        StartupError: Nobody has a key and neither was given, or the file cannot be read or written.
    """
    async with database.acquire(timeout_s) as connection:
        await connection.execute(_QUERIES["lock_admins"])
        if file is not None:
            key = _read(file)
            if key is None or not await _is_live(connection, key):
                # The file first: a key that is stored and lost would be valid for ever with nobody to know it.
                key = ApiKey.generate()
                _write(file, key)
                await _store(connection, key)
        elif not await connection.fetchval(_QUERIES["has_live_admin_key"]):
            if given is None:
                raise StartupError(
                    "nobody has a valid administrator's key; set DUOVEC_ADMIN_KEY_FILE to the file that one is to be "
                    "written to, or DUOVEC_ADMIN_KEY to a key of your own"
                )
            await _store(connection, given)


async def _is_live(connection: "Connection", key: ApiKey) -> bool:
    live: bool = await connection.fetchval(_QUERIES["is_live_admin_key"], key.key_id, key.secret_sha256)
    return live


async def _store(connection: "Connection", key: ApiKey) -> None:
    principal_key = await connection.fetchval(_QUERIES["ensure_admin"], FIRST_ADMIN)
    try:
        await connection.execute(
            _QUERIES["create_api_key"], key.key_id, principal_key, key.secret_sha256, "first administrator", None
        )
    except asyncpg.UniqueViolationError as error:
        raise StartupError(
            f"the key {key.key_id} of DUOVEC_ADMIN_KEY was used before, and is revoked, expired or no administrator's; "
            "choose another"
        ) from error


def _read(file: Path) -> ApiKey | None:
    try:
        return ApiKey.parse(file.read_text(encoding="ascii").strip())
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    except OSError as error:
        raise StartupError(f"the administrator's key in {file} cannot be read: {error.strerror}") from error


def _write(file: Path, key: ApiKey) -> None:
    """Replace the file in one step; it is never readable by others, nor ever half written."""
    staging = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        staging.unlink(missing_ok=True)
        descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(f"{key.text}\n")
            stream.flush()
            os.fsync(stream.fileno())
        staging.replace(file)
    except OSError as error:
        raise StartupError(f"the administrator's key cannot be written to {file}: {error.strerror}") from error
