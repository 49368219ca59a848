"""One gateway on two real Tritons: both work, and one that is killed fails nothing."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest
from fault_caller import API_KEY, Caller, chunk_request
from fault_site import ENCODERS, Backends, until
from numpy.typing import NDArray
from pydantic import SecretStr
from tritonclient.grpc.aio import InferenceServerClient

from gateway.local.triton import Triton
from gateway.server import serve
from gateway.settings import Settings

CHUNKS = 1200
TEXTS = [f"def area_{number}(width, height):\n    return width * height + {number}\n" for number in range(48)]


@pytest.fixture
async def second(backends: Backends) -> AsyncIterator[Triton]:
    folder = backends.root / "second"
    triton = Triton(backends.repository, ENCODERS, work_dir=folder, log_path=backends.root / "second.log")
    await triton.start()
    yield triton
    await triton.stop()


@pytest.fixture
async def caller(backends: Backends, second: Triton, database_url: str) -> AsyncIterator[Caller]:
    settings = Settings(
        database_url=database_url,
        triton_url=f"{backends.triton.url},{second.url}",
        model_repository=backends.repository,
        listen="127.0.0.1:0",
        admin_key=SecretStr(API_KEY),
        cache_max_texts=0,
        drain_s=1,
    )
    async with serve(settings) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        caller = Caller(channel, f"127.0.0.1:{port}")
        await caller.until_serving(True)
        await caller.create("two")
        yield caller


async def rows_done(triton: Triton) -> int:
    """Rows that the code encoder of a Triton has answered since it started."""
    async with InferenceServerClient(triton.url) as client:
        statistics = await client.get_inference_statistics(ENCODERS[0])
        return int(statistics.model_stats[0].inference_count)


async def vectors(caller: Caller) -> NDArray[np.float32]:
    """Of the texts, (B, 2560)."""
    response = await caller.embed(TEXTS, timeout_s=60)
    return np.array([embedding.vector.values for embedding in response.embeddings], dtype=np.float32)


async def test_one_of_two_tritons_is_killed_under_load_and_comes_back(
    backends: Backends, second: Triton, caller: Caller
) -> None:
    """No chunk and no call fails, vectors stay what they were, and who is back works again."""
    before = [await rows_done(triton) for triton in (backends.triton, second)]
    seen_BV = await vectors(caller)
    indexing = asyncio.create_task(caller.index([chunk_request("two", number) for number in range(CHUNKS)]))
    # The work is dealt out. Which of them did the texts from above, and answers its first request first, is chance.
    await until(lambda: reaches(second, before[1] + 60))
    await until(lambda: reaches(backends.triton, before[0] + 60))
    os.killpg(second.pid, signal.SIGKILL)
    await second.wait()
    answered = 0
    while not indexing.done():
        assert (await caller.embed(["x = 1"])).embeddings
        assert await caller.is_serving()
        answered += 1
    replies = await indexing
    assert [reply.error for reply in replies if reply.HasField("error")] == []
    assert answered > 3
    assert await caller.chunk_count("two") == (CHUNKS, 0)
    assert (await vectors(caller) * seen_BV).sum(axis=1).min() > 0.9999

    await second.stop()
    await second.start()

    async def works_again() -> bool:
        await caller.embed(TEXTS)
        return await rows_done(second) > len(TEXTS) // 2

    await until(works_again)
    assert (await vectors(caller) * seen_BV).sum(axis=1).min() > 0.9999


async def reaches(triton: Triton, count: int) -> bool:
    """Whether a Triton has answered so many rows."""
    return await rows_done(triton) >= count
