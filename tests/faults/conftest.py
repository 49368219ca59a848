"""A gateway inside the test, on a PostgreSQL and a Triton that the test may kill and bring back."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fault_caller import API_KEY, Parts
from open_folder import open_folder
from pydantic import SecretStr

from gateway.local.postgres import Postgres
from gateway.local.triton import Triton
from gateway.server import serve
from gateway.settings import Settings

ENCODERS = ("compact-code", "compact-text")


@pytest.fixture
def fault_dir() -> Iterator[Path]:
    """A folder that the account of PostgreSQL may enter."""
    with open_folder("duovec-faults-") as root:
        yield root


@pytest.fixture
def repository(published_models: Path) -> Path:
    """The models that are served; a test may ask for others."""
    return published_models


@pytest.fixture
async def parts(repository: Path, fault_dir: Path) -> AsyncIterator[Parts]:
    postgres = Postgres(fault_dir / "postgres", log_path=fault_dir / "postgres.log")
    triton = Triton(repository, ENCODERS, work_dir=fault_dir / "triton", log_path=fault_dir / "triton.log")
    await postgres.start()
    await triton.start()
    settings = Settings(
        database_url=postgres.url,
        triton_url=triton.url,
        model_repository=repository,
        listen="127.0.0.1:0",
        admin_key=SecretStr(API_KEY),
        drain_s=1,
    )
    async with serve(settings) as port:
        yield Parts(postgres, triton, f"127.0.0.1:{port}")
    await triton.stop()
    await postgres.stop()
