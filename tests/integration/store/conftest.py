"""The real PostgreSQL, one a session, and a migrated database of its own for every test, copied from one."""

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from open_folder import open_folder

from gateway.local.postgres import _SETTINGS, Postgres
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.migrations import migrate
from gateway.store.pool import Database
from gateway.store.rows import SpaceRow
from gateway.store.spaces import SpaceStore

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_root() -> Iterator[Path]:
    """A directory that the account of PostgreSQL may enter, which pytest's own (mode 0700) are not."""
    with open_folder("duovec-postgres-") as root:
        yield root


@pytest.fixture(scope="session")
async def postgres(postgres_root: Path) -> AsyncIterator[Postgres]:
    """Without fsync: hundreds of databases are made and dropped, and none needs to outlive a power cut."""
    server = Postgres(postgres_root / "data", log_path=postgres_root / "postgres.log")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(_SETTINGS, "fsync", "off")
        await server.start()
    yield server
    await server.stop()


@asynccontextmanager
async def _database(postgres: Postgres, name: str, *, template: str = "template1") -> AsyncIterator[str]:
    connection = await asyncpg.connect(postgres.url)
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield postgres.url.rsplit("/", 1)[0] + f"/{name}"
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def empty_url(postgres: Postgres) -> AsyncIterator[str]:
    """A database without any table."""
    async with _database(postgres, f"test_{next(_numbers)}") as url:
        yield url


@pytest.fixture(scope="session")
async def migrated(postgres: Postgres) -> AsyncIterator[str]:
    """The name of a migrated database that nobody else connects to: copying it costs a third of the migrations."""
    async with _database(postgres, "migrated") as url:
        await migrate(url)
        yield "migrated"


@pytest.fixture
async def url(postgres: Postgres, migrated: str) -> AsyncIterator[str]:
    """A migrated database."""
    async with _database(postgres, f"test_{next(_numbers)}", template=migrated) as url:
        yield url


@pytest.fixture
async def caller_database(url: str) -> AsyncIterator[Database]:
    """As requests use it: nothing is seen without a key to act with."""
    database = await Database.connect(url)
    yield database
    await database.close()


@pytest.fixture
def database(caller_database: Database) -> Database:
    """As the system: most tests are about what is stored, not about who may see it."""
    return caller_database.as_system()


@pytest.fixture
def chunks(database: Database) -> ChunkStore:
    return ChunkStore(database)


@pytest.fixture
def codebases(database: Database) -> CodebaseStore:
    return CodebaseStore(database)


@pytest.fixture
async def space(database: Database) -> SpaceRow:
    return await SpaceStore(database).ensure_active("a" * 64, {"code": "one"})


@pytest.fixture
async def codebase_key(codebases: CodebaseStore) -> int:
    return (await codebases.create("demo", "Demo", timeout_s=5)).codebase_key
