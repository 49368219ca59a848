"""From one pair of encoders to another while the service is searched and written to, and a gateway is killed."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import pytest
from fault_caller import API_KEY, Caller, chunk_request

from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.local.postgres import Postgres
from gateway.local.process import GatewayServer, free_port
from gateway.local.triton import Triton
from gateway.store.pool import Database

ENCODERS = ("compact-code", "compact-text")
CHUNKS = 400


@dataclass
class Site:
    """Two gateways on one database and one Triton."""

    repository: Path
    triton: Triton
    database_url: str
    killed: GatewayServer
    other: GatewayServer


@pytest.fixture
async def site(published_models: Path, fault_dir: Path) -> AsyncIterator[Site]:
    repository = fault_dir / "models"
    shutil.copytree(published_models, repository)
    postgres = Postgres(fault_dir / "postgres", log_path=fault_dir / "postgres.log")
    triton = Triton(repository, ENCODERS, work_dir=fault_dir / "triton", log_path=fault_dir / "triton.log")
    await postgres.start()
    await triton.start()
    gateways = []
    for name in ("killed", "other"):
        environment = {
            "DUOVEC_DATABASE_URL": postgres.url,
            "DUOVEC_TRITON_URL": triton.url,
            "DUOVEC_MODEL_REPOSITORY": str(repository),
            "DUOVEC_ADMIN_KEY": API_KEY,
            "DUOVEC_DRAIN_S": "1",
        }
        gateway = GatewayServer(f"127.0.0.1:{free_port()}", environment, log_path=fault_dir / f"{name}.log")
        await gateway.start()
        gateways.append(gateway)
    yield Site(repository, triton, postgres.url, *gateways)
    for gateway in gateways:
        await gateway.stop()
    await triton.stop()
    await postgres.stop()


@dataclass
class Searcher:
    """Looks for a stored chunk, again and again, and for each that was just acknowledged."""

    caller: Caller
    spaces: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    newest: int = 0
    search_count: int = 0

    async def run(self) -> None:
        number = 0
        while True:
            number = (number * 7 + 3) % CHUNKS
            for wanted in {number, self.newest or number}:
                response = await self.caller.search("space", f"function_{wanted}")
                found = [hit.chunk.symbol for hit in response.hits]
                if f"function_{wanted}" not in found[:1] or response.partial or not response.exact:
                    self.wrong.append(f"{wanted}: {found} {response.partial_reasons}")
                if not self.spaces or self.spaces[-1] != response.space:
                    self.spaces.append(response.space)
                self.search_count += 1

    async def write(self) -> None:
        """Acknowledge a new chunk now and then; `run` finds it at once."""
        number = CHUNKS
        while True:
            (reply,) = await self.caller.index([chunk_request("space", number)])
            if not reply.HasField("indexed"):
                self.wrong.append(f"{number} was not stored: {reply.error}")
            else:
                self.newest = number
            number += 1
            await asyncio.sleep(0.3)


def publish_another(site: Site) -> None:
    """The code encoder again, in another precision: other vectors, so another space."""
    command = [str(Path(sys.executable).with_name("duovec-export")), "publish", "--encoder", ENCODERS[0]]
    command += ["--repository", str(site.repository), "--triton-url", site.triton.url]
    command += ["--runtime", "onnxruntime", "--precision", "fp32", "--gate-pairs", "20", "--gate-longest", "64"]
    subprocess.run(command, check=True)


async def until(what: str, condition: object, *, timeout_s: float = 120) -> None:
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(condition):  # type: ignore[arg-type]
            await asyncio.sleep(0.1)


async def test_a_space_is_changed_under_load_and_back(site: Site) -> None:
    """Nobody's search fails, loses a hit or mixes vectors, whichever process dies meanwhile."""
    await asyncio.to_thread(publish_another, site)
    async with grpc.aio.insecure_channel(site.other.url) as channel:
        caller = Caller(channel, site.other.url)
        await caller.create("space")
        replies = await caller.index([chunk_request("space", number) for number in range(CHUNKS)])
        assert all(reply.HasField("indexed") for reply in replies)
        searcher = Searcher(caller)
        with Client(site.other.url, api_key=API_KEY) as admin, Client(site.killed.url, api_key=API_KEY) as first:
            async with asyncio.TaskGroup() as load:
                tasks = [load.create_task(searcher.run()), load.create_task(searcher.write())]
                old, new = await change(site, admin, first, searcher)
                for task in tasks:
                    task.cancel()
    assert searcher.wrong == []
    assert searcher.spaces == [old, new, old]
    assert searcher.search_count > 50
    assert searcher.newest > CHUNKS


async def change(site: Site, admin: Client, first: Client, searcher: Searcher) -> tuple[str, str]:
    """Build, fill with a kill in the middle, activate, roll back, drop; gives both fingerprints."""
    listed = await asyncio.to_thread(admin.spaces.list)
    (old,) = [row.fingerprint for row in listed.spaces]
    built = await asyncio.to_thread(first.spaces.build)
    new = built.fingerprint
    assert new == listed.served_space != old
    assert built.pending_chunk_count >= CHUNKS
    with pytest.raises(ClientError, match="not verified yet"):
        await asyncio.to_thread(admin.spaces.activate, new)

    await asyncio.to_thread(lambda: first.spaces.reembed(new, max_chunks_per_second=60))
    await until("some are there", lambda: admin.spaces.get(new).pending_chunk_count < CHUNKS - 60)
    os.kill(site.killed.pid, signal.SIGKILL)
    await site.killed.wait()
    left = (await asyncio.to_thread(admin.spaces.get, new)).pending_chunk_count
    assert 0 < left < CHUNKS
    # The other one takes it up where it was.
    await asyncio.to_thread(lambda: admin.spaces.reembed(new))
    await until("it is verified", lambda: admin.spaces.get(new).HasField("verification"))
    row = await asyncio.to_thread(admin.spaces.get, new)
    assert list(row.verification.faults) == []
    assert row.verification.passed
    assert row.verification.recomputed_count == 64
    assert row.verification.min_cosine > 0.9999
    await check_vectors(site, new)

    await site.killed.start()
    # By the one, while the other is searched.
    await asyncio.to_thread(first.spaces.activate, new)
    await until("the other follows", lambda: new in searcher.spaces)
    newest = searcher.newest
    await until("more was written", lambda: searcher.newest > newest + 2)

    assert (await asyncio.to_thread(first.spaces.roll_back)).fingerprint == old
    await until("the other follows", lambda: searcher.spaces[-1] == old)
    newest = searcher.newest
    await until("more was written", lambda: searcher.newest > newest + 2)
    with pytest.raises(ClientError, match="drop it in"):
        await asyncio.to_thread(admin.spaces.drop, new)
    with pytest.raises(ClientError, match="the active one"):
        await asyncio.to_thread(admin.spaces.drop, old)
    return old, new


async def check_vectors(site: Site, space: str) -> None:
    """Every chunk has its own vector of its own space: the same text in the other is near, but no copy of it."""
    database = (await Database.connect(site.database_url, max_size=2)).as_system()
    async with database.acquire(30) as connection:
        records = await connection.fetch(
            "SELECT a.embedding AS one, b.embedding AS two FROM embeddings a JOIN embeddings b USING (chunk_id)"
            " JOIN spaces s ON s.space_key = a.space_key WHERE s.fingerprint = $1 AND b.space_key <> a.space_key",
            space,
        )
    await database.close()
    assert len(records) >= CHUNKS
    one_BV, two_BV = (np.stack([r[name].to_numpy().astype(np.float64) for r in records]) for name in ("one", "two"))
    cosines_B = np.einsum("bv,bv->b", one_BV, two_BV)
    assert cosines_B.min() > 0.999
    assert not (one_BV == two_BV).all(axis=1).any()
