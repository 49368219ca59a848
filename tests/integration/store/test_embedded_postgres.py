import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.errors import DatabaseUnavailable, DeadlineExceeded, StartupError
from gateway.local import postgres
from gateway.local.postgres import Postgres
from gateway.store.codebases import CodebaseStore
from gateway.store.migrations import migrate
from gateway.store.pool import Database


@pytest.fixture
async def own_postgres(postgres_root: Path, request: pytest.FixtureRequest) -> AsyncIterator[Postgres]:
    """A server that the test may kill."""
    directory = postgres_root / request.node.name
    directory.mkdir()
    server = Postgres(directory / "data", log_path=directory / "postgres.log")
    await server.start()
    yield server
    await server.stop()


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def child_pids(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_a_killed_server_makes_the_pool_unavailable_until_it_is_back(own_postgres: Postgres) -> None:
    await migrate(own_postgres.url)
    database = (await Database.connect(own_postgres.url)).as_system()
    codebases = CodebaseStore(database)
    created = await codebases.create("demo", "Demo", timeout_s=5)

    async def query_while_it_dies() -> None:
        async with database.acquire(10) as connection:
            own_postgres.process.send_signal(signal.SIGKILL)
            await own_postgres.wait()
            await connection.execute("SELECT pg_sleep(5)")

    with pytest.raises(DatabaseUnavailable):
        await query_while_it_dies()
    for _ in range(12):  # More than there are connections.
        with pytest.raises(DatabaseUnavailable):
            await codebases.get_key("demo", timeout_s=5)

    await own_postgres.stop()
    await own_postgres.start()
    assert await codebases.get_key("demo", timeout_s=5) == created.codebase_key
    await database.close()


async def test_an_exhausted_pool_says_so_within_its_limit(url: str) -> None:
    connected = await Database.connect(url, min_size=1, max_size=1)
    # Connecting has its own time.
    database = Database(connected._pool, timeout_s=0.3, max_size=1, acts_as="system")
    async with database.acquire(5):
        with pytest.raises(DatabaseUnavailable, match=r"no database connection came free within 0.3 s"):
            async with database.acquire(5):
                pass
        with pytest.raises(DeadlineExceeded):
            async with database.acquire(0.1):
                pass
    await database.close()


async def test_nothing_that_a_block_set_is_left_for_the_next(url: str) -> None:
    """Of the one connection, whether its transaction was committed or undone, or it had none; locks are free, too."""
    database = (await Database.connect(url, min_size=1, max_size=1)).as_system()

    async def state() -> tuple[str, int]:
        async with database.acquire(5) as connection:
            locks = await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
            return await connection.fetchval("SELECT current_setting('work_mem')"), locks

    usual = await state()
    async with database.acquire(5) as connection:
        await connection.execute("SET LOCAL work_mem = '5MB'; SELECT pg_advisory_xact_lock(7)")
    assert await state() == usual
    with pytest.raises(ZeroDivisionError):
        async with database.acquire(5) as connection:
            await connection.execute("SET work_mem = '6MB'; SELECT pg_advisory_xact_lock(7)")
            raise ZeroDivisionError
    assert await state() == usual
    with pytest.raises(DeadlineExceeded):
        async with database.acquire(0.2, autocommit=True) as connection:
            await connection.execute("SET work_mem = '7MB'; SELECT pg_advisory_lock(7)")
            await connection.execute("SELECT pg_sleep(5)")
    assert await state() == usual
    await database.close()


async def test_a_second_server_on_the_same_data_is_refused(own_postgres: Postgres, postgres_root: Path) -> None:
    data_dir = own_postgres._data_dir
    second = Postgres(data_dir, log_path=postgres_root / "second.log")
    with pytest.raises(StartupError, match=rf"{data_dir} is in use by another duovec \(process {os.getpid()}\)"):
        await second.start()
    await second.stop()
    assert is_running(own_postgres.pid)


async def test_stopping_leaves_no_process(postgres_root: Path) -> None:
    server = Postgres(postgres_root / "stopped", log_path=postgres_root / "stopped.log")
    await server.start()
    pids = [server.pid, *child_pids(server.pid)]
    assert len(pids) > 3
    await server.stop()
    assert await server.wait() == 0
    assert not [pid for pid in pids if is_running(pid)]
    await server.stop()


async def test_a_port_in_use_is_a_clear_error(own_postgres: Postgres, postgres_root: Path) -> None:
    server = Postgres(postgres_root / "other", log_path=postgres_root / "other.log", port=own_postgres.port)
    with pytest.raises(StartupError, match=r"(?s)exited with status 1 while starting.*Address already in use"):
        await server.start()


async def test_a_directory_with_other_files_is_left_alone(postgres_root: Path) -> None:
    directory = postgres_root / "papers"
    directory.mkdir()
    (directory / "thesis.txt").write_text("x")
    with pytest.raises(StartupError, match="neither empty nor a data directory"):
        await Postgres(directory, log_path=postgres_root / "papers.log").start()
    assert [path.name for path in directory.iterdir()] == ["thesis.txt"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change its account")
async def test_a_directory_that_the_account_may_not_enter_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(StartupError, match="may not enter"):
        await Postgres(closed / "data", log_path=tmp_path / "log").start()


async def test_a_long_recovery_is_waited_for_and_told(postgres_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was killed in the middle of its recovery would begin it again at the next start, for ever."""
    directory = postgres_root / "recovering"
    told: list[str] = []
    server = Postgres(directory / "data", log_path=directory / "postgres.log", on_wait=told.append)
    await server.start()
    await server.stop()
    # It asks an archive for the history of its timeline and for two segments, and is not there for anybody meanwhile.
    (directory / "data" / "recovery.signal").touch()
    with (directory / "data" / "postgresql.auto.conf").open("a") as settings:
        settings.write("restore_command = 'sleep 2; false'\nhot_standby = off\n")
    monkeypatch.setattr(postgres, "_TELL_AFTER_S", 1.0)
    began_at = time.monotonic()
    await server.start(timeout_s=3)
    assert time.monotonic() - began_at > 3
    assert told == ["recovers what was not written to its tables before, which may take 10 minutes"]
    await server.stop()


_PARENT = """
import asyncio, os, signal, sys
from pathlib import Path
from gateway.local.postgres import Postgres

async def main():
    root = Path(sys.argv[1])
    server = Postgres(root / "orphan", log_path=root / "orphan.log")
    await server.start()
    print(server.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_the_server_does_not_outlive_a_killed_parent_and_its_data_can_be_used_again(postgres_root: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PARENT, str(postgres_root), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await parent.communicate()
    assert parent.returncode == -signal.SIGKILL
    orphan_pid = int(output)
    # It waits for the orphan's shutdown, or the start would fail.
    server = Postgres(postgres_root / "orphan", log_path=postgres_root / "orphan.log")
    await server.start()
    assert not is_running(orphan_pid)
    await server.stop()
