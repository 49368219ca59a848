"""The published compact pair, and one running stack for the tests that do not break it."""

import hashlib
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from open_folder import open_folder
from soak_run import SoakRun

from gateway.client.client import Client
from gateway.local.stack import Stack, StackSettings

ROOT = Path(__file__).parents[1]
# Of torch, here and in every child, unless somebody says otherwise. With a thread a core the small products of tests
# mostly wait for each other: on two cores that others use as well, one took twenty times the CPU time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
_SOAK = pytest.StashKey[SoakRun]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("soak", "the long forms of tests that are marked `soak`")
    group.addoption("--soak", action="store_true", help="Run the long forms.")
    group.addoption("--soak-seed", type=int, help="Seed of the long forms; printed, and random where not given.")
    group.addoption("--soak-kills", type=int, default=50, help="How often the long form kills something.")
    group.addoption("--soak-report", type=Path, help="File for the summary, one JSON line.")


def pytest_configure(config: pytest.Config) -> None:
    is_long, seed = config.getoption("--soak"), config.getoption("--soak-seed")
    if seed is None:
        seed = secrets.randbelow(10**9) if is_long else 1
    config.stash[_SOAK] = SoakRun(is_long, seed, config.getoption("--soak-kills"))


def pytest_report_header(config: pytest.Config) -> str | None:
    soak = config.stash[_SOAK]
    return f"soak: --soak-seed={soak.seed}" if soak.is_long else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    soak = config.stash[_SOAK]
    if soak.is_long:
        terminalreporter.write_line(soak.write(config.getoption("--soak-report")))


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> SoakRun:
    """Whether the long forms run, and what they have seen."""
    return request.config.stash[_SOAK]


def _sources_digest() -> str:
    """Names the exporter's sources and adapters, so that a change of theirs is never tested on an old export."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "export").rglob("*")):
        if path.suffix in {".py", ".toml", ".safetensors"}:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@pytest.fixture(scope="session")
def published_models() -> Path:
    """The compact pair, exported by these very sources unless that was done before."""
    repository = ROOT / ".duovec" / "tests" / _sources_digest()
    subprocess.run(
        [
            str(Path(sys.executable).with_name("duovec-export")),
            *("publish", "--pair", "compact", "--repository", str(repository), "--if-missing"),
        ],
        check=True,
    )
    return repository


@pytest.fixture(scope="session")
def session_dir() -> Iterator[Path]:
    """A folder that the account of PostgreSQL may enter, which pytest's own (mode 0700) are not."""
    with open_folder("duovec-session-") as root:
        yield root


@pytest.fixture(scope="session")
async def stack(published_models: Path, session_dir: Path) -> AsyncIterator[Stack]:
    """PostgreSQL, Triton and the gateway, all real."""
    settings = StackSettings(data_dir=session_dir, model_repository=published_models, listen="127.0.0.1:0")
    async with Stack(settings) as stack:
        yield stack


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    """As an administrator."""
    with Client(stack.endpoint, api_key=stack.api_key) as client:
        yield client
