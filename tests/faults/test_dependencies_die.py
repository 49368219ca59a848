"""Triton or PostgreSQL killed: a clear code in time, nothing half-written, recovery without a restart."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import grpc
import pytest
from fault_caller import Caller, Parts, chunk_request, error_of

pytestmark = pytest.mark.alone


@pytest.fixture
async def caller(parts: Parts) -> AsyncIterator[Caller]:
    async with grpc.aio.insecure_channel(parts.endpoint) as channel:
        caller = Caller(channel, parts.endpoint)
        await caller.until_serving(True)
        await caller.create("faults")
        yield caller


async def test_triton_is_killed_in_the_middle_of_an_index_stream_and_comes_back(parts: Parts, caller: Caller) -> None:
    requests = [chunk_request("faults", number) for number in range(600)]
    indexing = asyncio.create_task(caller.index(requests))
    while (await caller.chunk_count("faults"))[0] == 0:
        await asyncio.sleep(0.01)
    os.killpg(parts.triton.pid, signal.SIGKILL)
    await parts.triton.wait()
    replies = await indexing
    failed = [reply for reply in replies if reply.HasField("error")]
    stored = {reply.item_id for reply in replies if reply.HasField("indexed")}
    assert len(replies) == 600
    assert failed
    assert stored
    assert {reply.error.code for reply in failed} == {grpc.StatusCode.UNAVAILABLE.value[0]}
    # What was acknowledged is there, what was not is not there at all.
    assert await caller.chunk_count("faults") == (len(stored), 0)

    started = time.monotonic()
    error = await error_of(lambda: caller.embed(["x"], timeout_s=10))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "TRITON_UNAVAILABLE")
    assert time.monotonic() - started < 10
    await caller.until_serving(False)

    await parts.triton.stop()
    await parts.triton.start()
    await caller.until_serving(True)
    again = await caller.index(requests)
    assert all(reply.HasField("indexed") for reply in again)
    assert await caller.chunk_count("faults") == (600, 0)


async def test_postgresql_is_killed_and_comes_back(parts: Parts, caller: Caller) -> None:
    await caller.index([chunk_request("faults", number) for number in range(10)])
    os.kill(parts.postgres.pid, signal.SIGKILL)
    await parts.postgres.wait()
    error = await error_of(lambda: caller.search("faults", "multiply"))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
    await caller.until_serving(False)
    # Who calls cannot be told without the database, and nobody is let in for that.
    error = await error_of(lambda: caller.embed(["x = 1"]))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")

    await parts.postgres.stop()
    await parts.postgres.start()
    await caller.until_serving(True)
    hits = (await caller.search("faults", "multiply by 7")).hits
    assert len(hits) == 10


async def test_an_expired_deadline_drops_the_work(parts: Parts, caller: Caller) -> None:
    """A Triton that hangs costs a caller its deadline, not more; afterwards the service is as before."""
    os.kill(parts.triton.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        error = await error_of(lambda: caller.embed(["def f(): pass"], timeout_s=1))
        assert error.code == grpc.StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - started < 2
    finally:
        os.kill(parts.triton.pid, signal.SIGCONT)
    await caller.until_serving(True)
    assert len((await caller.embed(["def f(): pass"])).embeddings) == 1
