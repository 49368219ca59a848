"""From checkpoint to active space on the real stack: refused, broken off, gone on with, taken back."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from compact_checkpoint import ENCODER, write_adapters
from mined_data import rows_of, write_data

from duovec.v1 import space_service_pb2 as pb
from export.repository import EncoderFolder
from gateway.client.client import Client
from gateway.local.postgres import Postgres
from gateway.local.process import GatewayServer, free_port
from gateway.local.triton import Triton
from gateway.store.api_key import ApiKey

ENCODERS = ("compact-code", "compact-text")
API_KEY = ApiKey.generate().text
# No docstring: the verification of a space has nothing to ask, and leaves quality to the gate.
PLAIN = 60


@dataclass
class Site:
    """A stack of its own, whose encoders change."""

    repository: Path
    triton: Triton
    database_url: str
    endpoint: str
    data: Path
    good: Path
    bad: Path

    def command(self, checkpoint: Path, *options: str) -> list[str]:
        return [
            *(sys.executable, "-m", "training", "publish", "--code", str(checkpoint), "--data", str(self.data)),
            *("--repository", str(self.repository), "--endpoint", self.endpoint, "--triton-url", self.triton.url),
            *("--gate-pairs", "20", "--gate-longest", "64", "--limit", "60", "--wait", "200", "--json"),
            *("--unseen-data", *options),
        ]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "DUOVEC_API_KEY": API_KEY, "DUOVEC_DATABASE_URL": self.database_url}

    def publish(self, checkpoint: Path, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(checkpoint, *options), env=self.environment, capture_output=True, text=True, check=False
        )

    def spaces(self) -> list[pb.Space]:
        with Client(self.endpoint, api_key=API_KEY) as client:
            return list(client.spaces.list().spaces)

    def active(self) -> pb.Space:
        (space,) = [one for one in self.spaces() if one.state == pb.SPACE_STATE_ACTIVE]
        return space

    def search(self, query: str) -> list[str]:
        with Client(self.endpoint, api_key=API_KEY) as client:
            return [hit.chunk.symbol for hit in client.search("code", query, limit=3).hits]

    async def fetch(self, query: str, *arguments: object) -> Any:
        connection = await asyncpg.connect(self.database_url)
        try:
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A folder that the account of PostgreSQL may enter, which pytest's own (mode 0700) are not."""
    root = Path(tempfile.mkdtemp(prefix="duovec-publishing-"))
    root.chmod(0o755)
    yield root
    shutil.rmtree(root)


@pytest.fixture(scope="module")
async def site(root: Path, published_models: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    repository = root / "models"
    shutil.copytree(published_models, repository)
    postgres = Postgres(root / "postgres", log_path=root / "postgres.log")
    triton = Triton(repository, ENCODERS, work_dir=root / "triton", log_path=root / "triton.log")
    await postgres.start()
    await triton.start()
    environment = {
        "DUOVEC_DATABASE_URL": postgres.url,
        "DUOVEC_TRITON_URL": triton.url,
        "DUOVEC_MODEL_REPOSITORY": str(repository),
        "DUOVEC_ADMIN_KEY": API_KEY,
        "DUOVEC_DRAIN_S": "1",
    }
    gateway = GatewayServer(f"127.0.0.1:{free_port()}", environment, log_path=root / "gateway.log")
    await gateway.start()
    yield Site(
        repository,
        triton,
        postgres.url,
        gateway.url,
        write_data(tmp_path_factory.mktemp("data")),
        write_adapters(tmp_path_factory.mktemp("good"), scale=2.0),
        write_adapters(tmp_path_factory.mktemp("bad"), rank=2),
    )
    await gateway.stop()
    await triton.stop()
    await postgres.stop()


@pytest.fixture(scope="module", autouse=True)
async def stored(site: Site) -> None:
    """Chunks to embed again."""
    connection = await asyncpg.connect(site.database_url)
    await add_chunks(connection, "code", [f"def function_{n}():\n    return {n}" for n in range(PLAIN)])
    await connection.close()


async def add_chunks(connection: Any, codebase: str, contents: list[str]) -> None:
    """Chunks without vectors, by the store's own table: filling the active space gives them theirs."""
    key = await connection.fetchval(
        "INSERT INTO codebases (codebase_id, display_name) VALUES ($1, $1) RETURNING codebase_key", codebase
    )
    await connection.execute(
        "INSERT INTO chunks (codebase_key, path, language, symbol, kind, start_line, end_line, content, content_sha256,"
        " file_sha256, ordinal, file_chunk_count)"
        " SELECT $1, n || '.py', 'python', 'symbol_' || n, 'function', 1, 1, content, sha256(content::bytea),"
        " sha256('1'), 0, 1 FROM unnest($2::text[]) WITH ORDINALITY AS t (content, n)",
        key,
        contents,
    )


def versions(site: Site) -> tuple[int, tuple[int, ...]]:
    state = EncoderFolder(site.repository, ENCODER).state()
    assert state is not None
    return state.served, state.loaded


async def test_what_is_not_better_is_refused(site: Site) -> None:
    """The table, the reason, exit code 1; nothing is exported, built or activated; `--dry-run` says the same."""
    before = (site.active().fingerprint, versions(site), len(site.spaces()))
    for options in (("--dry-run",), ()):
        refused = site.publish(site.bad, *options)
        assert refused.returncode == 1, refused.stderr
        assert "error: NOT_BETTER: MRR@10" in refused.stderr
        verdict = json.loads(refused.stdout)["verdict"]
        assert not verdict["better"]
        whole = verdict["comparisons"][0]
        assert (whole["slice"], whole["condition"]) == ("all", "named")
        assert whole["high"] < 0
        assert whole["mrr"]["candidate"] < whole["mrr"]["live"]
        assert set(whole["mrr"]) == {"candidate", "live", "untrained base", "BM25"}
        recorded = await site.fetch("SELECT count(*) FROM training_publications")
        assert recorded == (0 if options else 1)
    assert (site.active().fingerprint, versions(site), len(site.spaces())) == before
    assert await site.fetch("SELECT state FROM training_publications") == "REFUSED"
