"""The first administrator's key: taken from the operator, or made and left in a file."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from gateway.errors import StartupError
from gateway.store.api_key import ApiKey
from gateway.store.pool import Database
from gateway.store.queries import load_queries

logger = logging.getLogger(__name__)

FIRST_ADMIN = "admin"

if TYPE_CHECKING:
    from gateway.store.pool import Connection

_QUERIES = load_queries("principals.sql")
_MEND = (
    "start a gateway with DUOVEC_ADMIN_KEY_FILE, the file that a key is to be written to, or with DUOVEC_ADMIN_KEY, a "
    'new key of your own, as by: echo "duovec_$(openssl rand -hex 6)_$(openssl rand -hex 32)"'
)


async def ensure_admin_key(
    database: Database, *, given: ApiKey | None = None, file: Path | None = None, timeout_s: float = 10
) -> None:
    """See to it that somebody can administer the service.

    With `file`, that file holds a valid administrator's key afterwards: where it does not, a new one is made. Without,
    `given` becomes the key of the principal "admin" unless an administrator has a valid key; one that was revoked does
    not come back. Where nobody can administer a service that has principals, they are served all the same, and the log
    says so: their calls need no administrator, and a gateway that is moved to another machine must start.

    Args:
        database: As the system.
        given: The operator's own choice.
        file: Where to leave a key that is made, readable by this account only (mode 0600).
        timeout_s: Deadline, seconds.

    Raises:
        StartupError: There is no principal yet, and neither was given; or the file cannot be read or written.
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
            why = "DUOVEC_ADMIN_KEY is not set"
            if given is not None:
                if await _store(connection, given):
                    return
                why = f"the key {given.key_id} of DUOVEC_ADMIN_KEY is revoked, expired or no administrator's"
            if not await connection.fetchval(_QUERIES["has_principals"]):
                raise StartupError(f"nobody has a valid administrator's key; {_MEND}")
            logger.error(
                "nobody can administer the service: no valid administrator's key is left, and %s; %s", why, _MEND
            )


async def _is_live(connection: "Connection", key: ApiKey) -> bool:
    live: bool = await connection.fetchval(_QUERIES["is_live_admin_key"], key.key_id, key.secret_sha256)
    return live


async def _store(connection: "Connection", key: ApiKey) -> bool:
    """Make a key the first administrator's; False where it was used before, by which nothing has changed."""
    try:
        async with connection.transaction():
            principal_key = await connection.fetchval(_QUERIES["ensure_admin"], FIRST_ADMIN)
            await connection.execute(
                _QUERIES["create_api_key"], key.key_id, principal_key, key.secret_sha256, "first administrator", None
            )
    except asyncpg.UniqueViolationError:
        return False
    return True


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
