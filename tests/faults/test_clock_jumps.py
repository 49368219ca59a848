"""The wall clock jumps by a year and back: no deadline, retry or health check notices, since none goes by it."""

import asyncio
import shutil
import struct
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from fault_caller import API_KEY, Caller, chunk_request
from fault_site import Backends
from fuzz_caller import complaints

from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.local.process import GatewayServer

YEAR_S, DAY_S = 365 * 86400, 86400
SOURCE = Path(__file__).with_name("shifted_clock.c")

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


class Clock:
    """What a gateway takes for the time."""

    def __init__(self, folder: Path) -> None:
        self.library, self.path = folder / "shifted_clock.so", folder / "offset"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", self.library, SOURCE, "-ldl"], check=True)
        self.set(0)

    def set(self, offset_s: int) -> None:
        """Have it jump to so many seconds from the truth."""
        if not self.path.exists():
            self.path.write_bytes(bytes(8))
        with self.path.open("r+b") as file:
            file.write(struct.pack("=q", offset_s))


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


@pytest.fixture
async def gateway(
    backends: Backends, database_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[GatewayServer]:
    with monkeypatch.context() as changed:
        changed.setenv("LD_PRELOAD", str(clock.library))
        changed.setenv("SHIFTED_CLOCK", str(clock.path))
        gateway = backends.gateway(database_url, "clock", cache_max_texts="0")
    await gateway.start()
    yield gateway
    await gateway.stop()


def what_the_gateway_takes_for_past(client: Client) -> bool:
    """Whether it refuses a key that ends in ten days, since they have passed by its clock."""
    try:
        client.access.create_api_key(expire_time=datetime.now(UTC) + timedelta(days=10))
    except ClientError as error:
        return "which has passed" in str(error)
    return False


async def test_a_clock_that_jumps_harms_nobody(backends: Backends, gateway: GatewayServer, clock: Clock) -> None:
    async with grpc.aio.insecure_channel(gateway.url) as channel:
        caller = Caller(channel, gateway.url)
        await caller.create("clock")
        with Client(gateway.url, api_key=API_KEY) as client:
            for number, offset_s in enumerate((YEAR_S, -YEAR_S, 0, DAY_S, 0)):
                first = 100 * number
                requests = [chunk_request("clock", first + one) for one in range(100)]
                indexing = asyncio.create_task(caller.index(requests))
                texts = [f"def f{number}_{one}(): pass" for one in range(64)]
                embedding = asyncio.create_task(caller.embed(texts, timeout_s=60))
                while (await caller.chunk_count("clock"))[0] == first:
                    await asyncio.sleep(0.005)
                clock.set(offset_s)
                assert what_the_gateway_takes_for_past(client) is (offset_s == YEAR_S)
                assert len((await embedding).embeddings) == 64
                assert all(reply.HasField("indexed") for reply in await indexing)
                assert len((await caller.search("clock", f"multiply by {number}")).hits) == 10
                assert await caller.is_serving()
    assert complaints(backends.log_path("clock")) == ""
