"""PostgreSQL and Triton that the tests may kill and bring back, and a gateway inside the test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fault_caller import Parts
from fault_site import ENCODERS, Backends, serving
from open_folder import open_folder

from gateway.concurrency import run_all
from gateway.local.postgres import Postgres
from gateway.local.triton import Triton


@pytest.fixture
def fault_dir() -> Iterator[Path]:
    """A folder that the account of PostgreSQL may enter."""
    with open_folder("duovec-faults-") as root:
        yield root


@pytest.fixture(scope="session")
async def shared_backends(published_models: Path) -> AsyncIterator[Backends]:
    with open_folder("duovec-faults-") as root:
        postgres = Postgres(root / "postgres", log_path=root / "postgres.log")
        triton = Triton(published_models, ENCODERS, work_dir=root / "triton", log_path=root / "triton.log")
        await run_all([postgres.start(), triton.start()])
        yield Backends(postgres, triton, published_models, root)
        await run_all([postgres.stop(), triton.stop()])


@pytest.fixture
async def backends(shared_backends: Backends) -> AsyncIterator[Backends]:
    """Both run when a test begins."""
    await shared_backends.mend()
    yield shared_backends
    await shared_backends.mend()


@pytest.fixture
async def database_url(backends: Backends) -> AsyncIterator[str]:
    """An empty database of the test's own."""
    async with backends.database() as url:
        yield url


@pytest.fixture
async def parts(backends: Backends, database_url: str) -> AsyncIterator[Parts]:
    async with serving(backends.postgres, backends.triton, backends.repository, database_url) as parts:
        yield parts
