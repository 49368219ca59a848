"""A gateway or a server that is gone without a word, or stalls, holds up nobody for long."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress

import asyncpg
import psutil
import pytest
from store_samples import make_vectors

from gateway.errors import DatabaseUnavailable, DeadlineExceeded
from gateway.store import pool as pool_module
from gateway.store.canary import find_canary
from gateway.store.pool import Database
from gateway.store.rows import SpaceRow
from gateway.store.spaces import SpaceStore, hold_active


@asynccontextmanager
async def another_gateway(url: str) -> AsyncIterator[Database]:
    database = await Database.connect(url, min_size=1, max_size=1)
    yield database.as_system()
    await database.close()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A backend that stalls, as a disk or a host that is gone leaves it."""
    backend = psutil.Process(pid)
    backend.suspend()
    try:
        yield
    finally:
        backend.resume()


async def test_both_sides_find_out_within_half_a_minute_that_the_other_is_gone(database: Database) -> None:
    """Without it a lock of a gateway whose machine vanished is held for two hours, by the systems' usual."""
    async with database.acquire(5) as connection:
        names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
        assert [await connection.fetchval(f"SHOW {name}") for name in names] == ["10", "5", "4", "30000"]
        ours: socket.socket = connection._con._transport.get_extra_info("socket")
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        assert [ours.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [10, 5, 4, 30_000]


async def test_the_locks_of_a_gateway_that_does_nothing_inside_a_transaction_are_freed(
    url: str, database: Database, space: SpaceRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pool_module.SERVER_SETTINGS, "idle_in_transaction_session_timeout", "100ms")
    async with another_gateway(url) as other:
        with pytest.raises(DatabaseUnavailable):
            async with other.acquire(30) as connection:
                await hold_active(connection, space.space_key)
                async with database.acquire(20) as waiting:
                    await waiting.execute("SELECT pg_advisory_xact_lock(hashtext('duovec.spaces'))")
                await connection.fetchval("SELECT 1")
        # The next one that asks has a connection again; on a busy machine it may meet the same limit.
        answer = None
        while answer is None:
            with suppress(DatabaseUnavailable):
                async with other.acquire(5) as connection:
                    answer = await connection.fetchval("SELECT 1")


async def test_a_start_that_changes_nothing_waits_for_no_writer(url: str, database: Database, space: SpaceRow) -> None:
    """One that hangs would keep new gateways from starting, and the lock of the start would keep all others waiting."""
    async with another_gateway(url) as other, other.acquire(30) as writing:
        await hold_active(writing, space.space_key)
        assert await SpaceStore(database).ensure_active(space.fingerprint, {}, timeout_s=5) == space


async def test_a_deadline_holds_although_the_server_does_not_undo_the_transaction(database: Database) -> None:
    """The statement is cancelled in vain; neither that nor the rollback is waited for."""
    with ExitStack() as stack:

        async def work() -> None:
            async with database.acquire(1) as connection:
                stack.enter_context(stopped(await connection.fetchval("SELECT pg_backend_pid()")))
                await connection.fetchval("SELECT 2")

        task = asyncio.create_task(work())
        await asyncio.wait([task], timeout=20)
        assert task.done()
        assert database.busy_count == 0
    with pytest.raises(DeadlineExceeded):
        await task


async def test_who_is_cancelled_stays_so_although_the_server_does_not_undo_the_transaction(database: Database) -> None:
    """A task that took the failed rollback for its own failure would go on, and hold up the shutdown."""
    began: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        async with database.acquire(60) as connection:
            began.set_result(await connection.fetchval("SELECT pg_backend_pid()"))
            await connection.fetchval("SELECT pg_sleep(60)")

    task = asyncio.create_task(work())
    with stopped(await began):
        task.cancel()
        await asyncio.wait([task], timeout=20)
        assert task.cancelled()


async def test_the_deadline_of_the_canary_holds_over_a_server_that_stalls(
    url: str, database: Database, space: SpaceRow
) -> None:
    vector_D = make_vectors(1)[0]
    lock = await asyncpg.connect(url)
    try:
        async with lock.transaction():
            await lock.execute("LOCK TABLE codebases IN ACCESS EXCLUSIVE MODE")
            finding = asyncio.create_task(
                find_canary(database, space.space_key, text="x", passage_D=vector_D, query_D=vector_D, timeout_s=2)
            )
            with stopped(await _waiting_backend(lock)):
                await asyncio.wait([finding], timeout=20)
                assert finding.done()
    finally:
        await lock.close()
    with pytest.raises(DeadlineExceeded):
        await finding
    found = await find_canary(database, space.space_key, text="x", passage_D=vector_D, query_D=vector_D, timeout_s=5)
    assert found == pytest.approx(1, abs=1e-3)


async def _waiting_backend(connection: asyncpg.Connection) -> int:
    while True:
        pid = await connection.fetchval(
            "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        if pid is not None:
            return int(pid)
        await asyncio.sleep(0.01)
