"""Migrations: applied in order, each in a transaction, and rolled back in reverse."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

import asyncpg

from gateway.errors import DatabaseUnavailable, StartupError
from gateway.store.failures import translate_failures
from gateway.store.pool import SERVER_SETTINGS, StoreConnection, probe_peer
from gateway.store.queries import load_queries

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

# 0.8.2 to 0.8.4 fixed a buffer overflow, an index corruption by vacuum, and failing inserts.
MINIMUM_PGVECTOR = (0, 8, 4)

_QUERIES = load_queries("migrations.sql")
# What comes again however often it is tried, unlike a server that is away.
_REFUSALS = (
    asyncpg.SyntaxOrAccessError,
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.DependentPrivilegeDescriptorsStillExistError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.RaiseError,
)
_UP_FILE = re.compile(r"(?P<version>\d{4})_(?P<name>[a-z0-9_]+)\.up\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema; `checksum` is the SHA-256 of `up_sql` in hex."""

    version: int
    name: str
    up_sql: str
    down_sql: str

    @property
    def checksum(self) -> str:
        """What the database remembers, to notice that an applied file was edited."""
        return hashlib.sha256(self.up_sql.encode()).hexdigest()


def load_migrations() -> list[Migration]:
    """Load the migrations of this version of duovec, oldest first."""
    directory = files("gateway.store") / "sql" / "migrations"
    migrations = []
    for entry in directory.iterdir():
        if match := _UP_FILE.fullmatch(entry.name):
            down = directory / entry.name.replace(".up.sql", ".down.sql")
            up_sql, down_sql = entry.read_text(encoding="utf-8"), down.read_text(encoding="utf-8")
            migrations.append(Migration(int(match["version"]), match["name"], up_sql, down_sql))
    return sorted(migrations, key=lambda migration: migration.version)


async def migrate(url: str, *, timeout_s: float = 60, migrations: Sequence[Migration] | None = None) -> list[int]:
    """Bring a database to the schema of this version of duovec.

    Args:
        url: As for `Database.connect`.
        timeout_s: Budget, seconds; includes the wait for another process that migrates.
        migrations: Those of this version when None.

    Returns:
        The versions that were applied; empty when there was nothing to do.

    Raises:
        StartupError: pgvector is missing or too old, an applied migration was edited since, the database was
            migrated by a newer duovec, or lacks a migration below one that it has: nothing was changed. Or PostgreSQL
            refuses a migration, of which nothing is left; those before it stay.
        DatabaseUnavailable: The server cannot be reached.
        DeadlineExceeded: It took longer than `timeout_s`; what was not committed is undone.
    """
    known = load_migrations() if migrations is None else migrations
    async with _connect_locked(url, timeout_s) as connection:
        await _check_pgvector(connection)
        with _refusals("the table of migrations"):
            await connection.execute(_QUERIES["create_table"])
        applied = await _check_applied(connection, known)
        pending = [migration for migration in known if migration.version not in applied]
        for migration in pending:
            with _refusals(f"migration {migration.version:04d}_{migration.name}"):
                async with connection.transaction():
                    await connection.execute(migration.up_sql)
                    await connection.execute(
                        _QUERIES["record_applied"], migration.version, migration.name, migration.checksum
                    )
    return [migration.version for migration in pending]


async def roll_back(
    url: str, to_version: int, *, timeout_s: float = 60, migrations: Sequence[Migration] | None = None
) -> list[int]:
    """Undo the migrations above a version, newest first. What their tables held is lost.

    Args:
        url: As for `Database.connect`.
        to_version: The version to go back to; 0 undoes everything.
        timeout_s: Budget, seconds.
        migrations: Those of this version when None.

    Returns:
        The versions that were undone.

    Raises:
        StartupError: As for `migrate`.
    """
    known = load_migrations() if migrations is None else migrations
    async with _connect_locked(url, timeout_s) as connection:
        await connection.execute(_QUERIES["create_table"])
        applied = await _check_applied(connection, known)
        doomed = [m for m in reversed(known) if m.version in applied and m.version > to_version]
        for migration in doomed:
            with _refusals(f"the way back from migration {migration.version:04d}_{migration.name}"):
                async with connection.transaction():
                    await connection.execute(migration.down_sql)
                    await connection.execute(_QUERIES["forget_applied"], migration.version)
    return [migration.version for migration in doomed]


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Say in one line what PostgreSQL does not do, be it for want of a right, or for what is in the database."""
    try:
        yield
    except _REFUSALS as error:
        why = "; ".join(str(error).splitlines())
        raise StartupError(
            f"PostgreSQL refuses {what}, of which nothing is left ({why}); mend that, and start again"
        ) from error


@asynccontextmanager
async def _connect_locked(url: str, timeout_s: float) -> AsyncIterator["Connection"]:
    with translate_failures():
        async with asyncio.timeout(timeout_s):
            connection = await _connect(url, timeout_s)
            try:
                await connection.execute(_QUERIES["lock_migrations"])
                yield connection
            finally:
                # Its end frees the lock.
                await connection.close(timeout=5)


async def _connect(url: str, timeout_s: float) -> "Connection":
    """Connect, and tell a URL that never leads anywhere from a server that is away."""
    try:
        connection = await asyncpg.connect(
            url, timeout=timeout_s, connection_class=StoreConnection, server_settings=SERVER_SETTINGS
        )
        probe_peer(connection)
        return connection
    except TimeoutError as error:
        raise DatabaseUnavailable(f"PostgreSQL did not accept a connection within {timeout_s:g} s") from error
    except (asyncpg.ClientConfigurationError, asyncpg.SyntaxOrAccessError) as error:
        why = "; ".join(str(error).splitlines())
        raise StartupError(f"DUOVEC_DATABASE_URL leads to no connection: {why}") from error
    except asyncpg.InternalClientError as error:
        # Such as where all of several hosts are standbys, and the primary was asked for.
        raise DatabaseUnavailable(f"no connection to PostgreSQL could be made: {error}") from error
    except (ValueError, OverflowError):
        # What cannot be read as a port is quoted by these, and may be half of a password.
        raise StartupError(
            "DUOVEC_DATABASE_URL is not of the form postgresql://user:password@host:port/database; a sign such as "
            "@, / or # in the password is written as %40, %2F or %23"
        ) from None


async def _check_pgvector(connection: "Connection") -> None:
    version: str | None = await connection.fetchval(_QUERIES["get_pgvector_version"])
    check_pgvector_version(version)


def check_pgvector_version(version: str | None) -> None:
    """Refuse a pgvector that is missing (None) or older than `MINIMUM_PGVECTOR`.

    Raises:
        StartupError: Says the version that was found and what to do.
    """
    required = ".".join(map(str, MINIMUM_PGVECTOR))
    if version is None:
        raise StartupError(f"PostgreSQL has no pgvector; install pgvector {required} or newer on the server")
    if tuple(int(part) for part in re.findall(r"\d+", version)[:3]) < MINIMUM_PGVECTOR:
        raise StartupError(
            f"pgvector {version} is too old, {required} or newer is required; install it on the server "
            "and run ALTER EXTENSION vector UPDATE in the database"
        )


async def _check_applied(connection: "Connection", known: Sequence[Migration]) -> set[int]:
    """Give the versions that are applied, after checking that they are those which this duovec knows."""
    by_version = {migration.version: migration for migration in known}
    applied = await connection.fetch(_QUERIES["list_applied"])
    for record in applied:
        migration = by_version.get(record["version"])
        if migration is None:
            raise StartupError(
                f"the database has migration {record['version']:04d}_{record['name']}, which this duovec does not "
                f"know (it knows up to {max(by_version, default=0):04d}); start the newer duovec that applied it"
            )
        if migration.checksum != record["checksum"]:
            raise StartupError(
                f"migration {migration.version:04d}_{migration.name} was edited after it was applied "
                f"(checksum {migration.checksum[:12]}, applied {record['checksum'][:12]}); restore the file and "
                "put the change into a new migration"
            )
    versions = {record["version"] for record in applied}
    for migration in known:
        if migration.version not in versions and migration.version < max(versions, default=0):
            raise StartupError(
                f"the database lacks migration {migration.version:04d}_{migration.name} below {max(versions):04d}, "
                "which it has: it was changed by hand; restore it from a backup"
            )
    return versions
