"""A database that is read-only, slow or full: a clear code in time, the rest goes on, and it recovers by itself."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import grpc
import pytest
from fault_caller import Caller, Parts, chunk_request, error_of
from fault_site import Backends, serving

from gateway.client.errors import ClientError

pytestmark = pytest.mark.alone

CODEBASE = "ails"
MEGABYTE = 1024 * 1024


@asynccontextmanager
async def calling(parts: Parts) -> AsyncIterator[Caller]:
    async with grpc.aio.insecure_channel(parts.endpoint) as channel:
        caller = Caller(channel, parts.endpoint)
        await caller.until_serving(True)
        await caller.create(CODEBASE)
        await caller.index([chunk_request(CODEBASE, number) for number in range(10)])
        yield caller


@pytest.fixture
async def caller(parts: Parts) -> AsyncIterator[Caller]:
    async with calling(parts) as caller:
        yield caller


@asynccontextmanager
async def read_only(parts: Parts) -> AsyncIterator[None]:
    """Every transaction that begins, in sessions old and new, as a replica's."""
    connection = await asyncpg.connect(parts.postgres.url)
    try:
        await connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await connection.execute("SELECT pg_reload_conf()")
        yield
    finally:
        await connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
        await connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()


async def test_a_database_that_takes_no_writes_is_read_all_the_same(parts: Parts, caller: Caller) -> None:
    async with read_only(parts):
        await caller.until_serving(False)
        assert len((await caller.search(CODEBASE, "multiply by 7")).hits) == 10
        assert len((await caller.embed(["x = 1"])).embeddings) == 1
        error = await error_of(lambda: caller.create("another"))
        assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
        replies = await caller.index([chunk_request(CODEBASE, number) for number in range(20)])
        failed = [reply.error for reply in replies if reply.HasField("error")]
        assert {reply.error.code for reply in replies if reply.HasField("error")} == {
            grpc.StatusCode.UNAVAILABLE.value[0]
        }
        assert all("read-only" in one.message for one in failed)
        assert await caller.chunk_count(CODEBASE) == (10, 0)
    await caller.until_serving(True)
    replies = await caller.index([chunk_request(CODEBASE, number) for number in range(20)])
    assert all(reply.HasField("indexed") for reply in replies)
    assert await caller.chunk_count(CODEBASE) == (20, 0)


async def test_who_waits_for_a_slow_database_has_a_deadline_and_takes_nothing_from_the_others(
    parts: Parts, caller: Caller
) -> None:
    """More searches than there are connections wait for a lock: each ends in its time, and leaves no query."""
    connection = await asyncpg.connect(parts.database_url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE chunks IN ACCESS EXCLUSIVE MODE")
            waiting = [asyncio.create_task(error_of(lambda: search(caller, timeout_s=2))) for _ in range(30)]
            async with asyncio.timeout(20):
                errors = await asyncio.gather(*waiting)
            assert {error.code for error in errors} == {grpc.StatusCode.DEADLINE_EXCEEDED}
            # Who needs nothing that is locked is answered, the more since those who waited have given up.
            assert len((await caller.embed(["x = 1"])).embeddings) == 1
            assert await waiting_queries(connection) <= 2  # the canary's, and a background look
        assert len((await caller.search(CODEBASE, "multiply by 7")).hits) == 10
    finally:
        await connection.close()
    await caller.until_serving(True)


async def search(caller: Caller, *, timeout_s: float) -> object:
    async with asyncio.timeout(timeout_s + 10):
        return await caller.search(CODEBASE, "multiply by 7", timeout_s=timeout_s)


async def waiting_queries(connection: asyncpg.Connection) -> int:
    """Queries of the gateway that wait for a lock, once those of callers who have gone are cancelled."""
    for _ in range(200):
        count = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        if count <= 2:
            break
        await asyncio.sleep(0.02)
    return int(count)


def can_mount() -> bool:
    """Whether this account may mount in a namespace of its own, and run PostgreSQL as another there."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@asynccontextmanager
async def cramped_postgres(root: Path) -> AsyncIterator[tuple[str, Path]]:
    """PostgreSQL with 64 MB for its tables; gives the URL, and where they lie as this process sees it."""
    script = Path(__file__).with_name("small_disk_postgres.py")
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--mount", sys.executable, str(script), str(root), "64m"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        url = (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()
        yield url, Path(f"/proc/{process.pid}/root{root}/small")
    finally:
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 30)


def fill(disk: Path) -> Path:
    """Take all the room that is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (MEGABYTE, 4096, 1):
            with contextlib.suppress(OSError):
                while file.write(b"\1" * size):
                    pass
    return filler


@pytest.mark.skipif(not can_mount(), reason="needs root, and a mount namespace (unshare), which this machine refuses")
async def test_a_full_disk_loses_nothing_and_is_named(backends: Backends, fault_dir: Path) -> None:
    """What was acknowledged is there, the rest is refused for now; it is searched meanwhile, and goes on with room."""
    async with (
        cramped_postgres(fault_dir) as (url, disk),
        serving(backends.postgres, backends.triton, backends.repository, url) as parts,
        calling(parts) as caller,
    ):
        filler = fill(disk)
        requests = [chunk_request(CODEBASE, number) for number in range(400)]
        replies = await caller.index(requests)
        stored = sum(reply.HasField("indexed") for reply in replies)
        failed = [reply.error for reply in replies if reply.HasField("error")]
        assert {one.code for one in failed} == {grpc.StatusCode.UNAVAILABLE.value[0]}
        assert any("No space left on device" in one.message for one in failed)
        assert await caller.chunk_count(CODEBASE) == (max(stored, 10), 0)
        assert len((await caller.search(CODEBASE, "multiply by 7")).hits) == 10
        assert len((await caller.embed(["never seen = 1"])).embeddings) == 1
        with contextlib.suppress(ClientError):
            await caller.create("another")
        filler.unlink()
        await caller.until_serving(True)
        replies = await caller.index(requests)
        assert all(reply.HasField("indexed") for reply in replies)
        assert await caller.chunk_count(CODEBASE) == (400, 0)
