"""A PostgreSQL with the gateway's tables, one a file of tests."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from open_folder import open_folder

from gateway.local.postgres import Postgres
from gateway.store.migrations import migrate


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A folder that the account of PostgreSQL may enter, which pytest's own (mode 0700) are not."""
    with open_folder("duovec-worker-") as root:
        yield root


@pytest.fixture(scope="module")
async def postgres(root: Path) -> AsyncIterator[Postgres]:
    server = Postgres(root / "data", log_path=root / "postgres.log")
    await server.start()
    await migrate(server.url)
    yield server
    await server.stop()


@pytest.fixture
async def connection(postgres: Postgres) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(postgres.url)
    yield connection
    await connection.execute("TRUNCATE training_runs, training_schedules, training_publications, codebases CASCADE")
    await connection.close()
