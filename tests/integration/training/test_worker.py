"""Workers on the real PostgreSQL: one run a worker, killed and taken up, cancelled, stopped."""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow.parquet as parquet
import pytest
from mined_data import write_data
from queued_runs import run_folder
from small_checkpoint import write_spec
from small_recipe import write_base, write_recipe

from gateway.client.chunking import chunk_file
from gateway.local.postgres import Postgres
from gateway.store.queries import load_queries
from training.database import DatabaseAway
from training.dataset import data_digest
from training.errors import TrainingError
from training.publication.ledger import Ledger
from training.publication.unfinished import Unfinished
from training.worker.queue import RunQueue
from training.worker.stages import RunFolder, WorkerSettings
from training.worker.worker import Worker

LEASE_S = 3.0
Connection = Any


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a worker of the small encoder is started with: specs, base, and a mined data set."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "specs").mkdir()
    write_spec(folder / "specs" / "small.toml")
    write_base(folder / "base")
    write_data(folder / "data")
    return folder


class Workers:
    """Worker processes with one work folder."""

    def __init__(self, url: str, small: Path, work_dir: Path) -> None:
        self.url = url
        self._small = small
        self.work_dir = work_dir
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *options: str, lease_s: float = LEASE_S) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "training", "worker", "--work-dir", str(self.work_dir), "--name", name]
        command += ["--specs", str(self._small / "specs"), "--base", str(self._small / "base")]
        command += ["--lease", str(lease_s), "--poll", "0.2", *options]
        environment = {**os.environ, "DUOVEC_DATABASE_URL": self.url, "OMP_NUM_THREADS": "1"}
        environment.pop("DUOVEC_ENDPOINT", None)
        with (self.work_dir / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stderr=log, stdout=log)
        self._started.append(process)
        return process

    async def data_of(self, run_id: int) -> RunFolder:
        """The mined data set, in its place: mining from a database has tests of its own."""
        folder = await run_folder(self.url, self.work_dir, run_id)
        shutil.copytree(self._small / "data", folder.data)
        return folder

    def folder(self, run_id: int) -> Path:
        (folder,) = self.work_dir.glob(f"run-{run_id}-*")
        return folder

    def metrics(self, run_id: int) -> list[int]:
        """The steps in a run's metrics."""
        path = self.folder(run_id) / "train" / "metrics.jsonl"
        with contextlib.suppress(FileNotFoundError):
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            return [json.loads(line)["step"] for line in lines if line.endswith("\n")]
        return []

    def children(self) -> list[str]:
        """Command lines of the stages that work in this folder now."""
        return [command for _, command in self._children()]

    def _children(self) -> list[tuple[int, str]]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes().decode(errors="replace").split("\0")
                if any(f"{self.work_dir}/run-" in word for word in words):
                    found.append((int(path.parent.name), " ".join(words)))
        return found

    def trainings(self, run_id: int) -> int:
        """How many trainings of a run work now: a session each, in which what a training forks is not another one."""
        sessions = set()
        for process_id, command in self._children():
            if f"run-{run_id}-" in command and " run " in command:
                with contextlib.suppress(ProcessLookupError):
                    sessions.add(os.getsid(process_id))
        return len(sessions)

    def kill(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()


@pytest.fixture
def workers(postgres: Postgres, small: Path, tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(postgres.url, small, tmp_path)
    yield workers
    workers.kill()


def library_chunks(packages: Sequence[str]) -> list[tuple[object, ...]]:
    """Packages of the standard library, chunked as the indexer does."""
    rows = []
    for package in packages:
        for path in sorted(Path(sysconfig.get_path("stdlib"), package).glob("*.py")):
            source = path.read_bytes()
            chunks = chunk_file(path.name, source)
            for ordinal, one in enumerate(chunks):
                place = (f"{package}/{path.name}", one.language, one.symbol, one.kind, one.start_line, one.end_line)
                digests = (hashlib.sha256(one.content.encode()).digest(), hashlib.sha256(source).digest())
                rows.append((*place, one.content, *digests, ordinal, len(chunks)))
    return rows


async def store_library(
    connection: Connection,
    packages: Sequence[str] = ("email", "http", "json", "logging", "wsgiref", "html", "xmlrpc"),
) -> None:
    """One codebase of them, without vectors."""
    key = await connection.fetchval(
        "INSERT INTO codebases (codebase_id, display_name) VALUES ('library', 'L') RETURNING codebase_key"
    )
    await connection.executemany(
        "INSERT INTO chunks (codebase_key, path, language, symbol, kind, start_line, end_line, content, content_sha256,"
        " file_sha256, ordinal, file_chunk_count) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        [(key, *row) for row in library_chunks(packages)],
    )


async def queue(
    connection: Connection, folder: Path, *, codebase_ids: tuple[str, ...] = (), **optimizer: object
) -> int:
    """A run of the small encoder, to be compared and not published."""
    recipe = write_recipe(folder / "recipe", **optimizer).read_text(encoding="utf-8")
    run_id: int = await connection.fetchval(
        "INSERT INTO training_runs (recipe, encoder, codebase_ids, device, publish, principal_id)"
        " VALUES ($1, 'small.toml', $2, 'cpu', false, 'admin') RETURNING run_id",
        recipe,
        list(codebase_ids),
    )
    return run_id


async def until(what: str, condition: Callable[[], Awaitable[Any]], *, timeout_s: float = 240) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            while not await condition():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s:g} s: {what}") from None


async def row(connection: Connection, run_id: int) -> Any:
    return await connection.fetchrow("SELECT * FROM training_runs WHERE run_id = $1", run_id)


async def test_a_killed_worker_s_run_is_taken_up_by_another(
    connection: Connection, workers: Workers, tmp_path: Path
) -> None:
    """SIGKILL in mid-training, two more workers: each run once at a time, from its checkpoint, to its end.

    The other run mines its own data from what is stored.
    """
    await store_library(connection)
    runs = [
        await queue(connection, tmp_path, max_steps=150, epochs=40),
        await queue(connection, tmp_path, max_steps=12, codebase_ids=("library",)),
    ]
    await workers.data_of(runs[0])
    killed = workers.start("killed")

    async def trains() -> bool:
        return len(workers.metrics(runs[0])) > 20

    await until("it trains", trains)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    # Its children die with it: whoever takes the run up is alone in the folder.
    await until("its training is dead too", lambda: asyncio.to_thread(lambda: not workers.children()))
    reached = len(workers.metrics(runs[0]))
    assert reached < 150
    checkpoints = sorted((workers.folder(runs[0]) / "train" / "checkpoints").glob("checkpoint-*"))
    others = [workers.start(name, lease_s=60.0) for name in ("second", "third")]
    most = 0

    async def ended() -> bool:
        nonlocal most
        most = max(most, workers.trainings(runs[0]))
        return not await connection.fetchval("SELECT count(*) FROM training_runs WHERE finish_time IS NULL")

    await until("both have ended", ended)
    assert most == 1
    first, second = [await row(connection, run_id) for run_id in runs]
    assert (first["state"], first["attempt"], first["error"]) == ("SUCCEEDED", 2, None)
    assert (second["state"], second["attempt"], second["error"]) == ("SUCCEEDED", 1, None)
    assert {first["worker"], second["worker"]} <= {"second", "third"}
    # Steps after the last checkpoint were made again, none is missing and none stands twice.
    assert workers.metrics(runs[0]) == list(range(1, 151))
    assert checkpoints
    metrics = json.loads(first["metrics"])
    assert metrics["against"] == "baseline own"
    assert {one["slice"] for one in metrics["comparisons"]} >= {"all", "style docstring", "language python"}
    lineage = json.loads(first["lineage"])
    assert {"code", "recipe_sha256", "data_sha256"} <= lineage.keys()
    assert lineage["data_sha256"] == data_digest(workers.folder(runs[0]) / "data")
    mined = workers.folder(runs[1]) / "data"
    assert json.loads(second["lineage"])["data_sha256"] == data_digest(mined)
    scopes = parquet.read_table(mined / "train.parquet")["scope"].to_pylist()
    assert len(scopes) >= 100
    assert all(scope == ["library"] for scope in scopes)
    assert lineage["recipe_sha256"] != json.loads(second["lineage"])["recipe_sha256"]
    assert first["loss"] > 0 and first["tokens_per_s"] > 0
    for worker in others:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0


async def test_a_run_outlives_its_database(postgres: Postgres, workers: Workers, tmp_path: Path) -> None:
    """PostgreSQL stops in mid-training, and again in the last stage, and is back within the lease.

    What runs comes to its end, and there the worker waits.
    """
    connection = await asyncpg.connect(postgres.url)
    run_id = await queue(connection, tmp_path, max_steps=250, epochs=65)
    await workers.data_of(run_id)
    worker = workers.start("one", lease_s=600.0)

    async def trains() -> bool:
        return len(workers.metrics(run_id)) > 10

    async def compares() -> bool:
        return any(" publish " in line for line in workers.children())

    said = "it is asked again while the run is held"
    for number, (what, begun) in enumerate((("it trains", trains), ("it compares", compares)), 1):
        await until(what, begun)
        await postgres.stop()

        async def waits(number: int = number) -> bool:
            return (tmp_path / "one.log").read_text().count(said) == number

        try:
            await until("it waits at the end of its stage", waits)
            assert len(workers.metrics(run_id)) == 250 and workers.children() == []
        finally:
            await postgres.start()
    assert worker.poll() is None
    connection = await asyncpg.connect(postgres.url)

    async def ended() -> bool:
        return (await row(connection, run_id))["finish_time"] is not None

    await until("it has ended", ended)
    found = await row(connection, run_id)
    assert (found["state"], found["attempt"], found["error"]) == ("SUCCEEDED", 1, None)
    assert workers.metrics(run_id) == list(range(1, 251))
    await connection.execute("TRUNCATE training_runs CASCADE")
    await connection.close()
    worker.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.wait, 30) == 0


async def test_what_the_queue_is_asked_is_given_up_when_the_run_is_not_held_any_more(small: Path) -> None:
    """Its database is away all the time; or at once, when the worker is to stop."""
    settings = WorkerSettings("postgresql://duovec@127.0.0.1:1/duovec", small)
    worker = Worker(settings, name="one", lease_s=2.0, poll_s=0.2)
    asked: list[float] = []

    async def ask() -> bool:
        asked.append(time.monotonic())
        return await worker._queue.has_queued()

    worker._held_until_s = (began_s := time.monotonic()) + 2.0
    with pytest.raises(DatabaseAway):
        await worker._while_held(ask)
    assert 3 < len(asked) < 21
    assert asked[-1] < began_s + 2.0
    asked.clear()
    worker._held_until_s = time.monotonic() + 60.0
    waiting = asyncio.create_task(worker._while_held(ask))
    await until("it was asked twice", lambda: asyncio.sleep(0, len(asked) > 1))
    worker._stop.set()
    with pytest.raises(DatabaseAway):
        await waiting


async def test_a_worker_whose_database_hangs_ends_its_training_before_another_begins_it(
    connection: Connection, workers: Workers, tmp_path: Path
) -> None:
    """Its own connection is mute and not broken: it is given up within the lease, not when the call times out."""
    run_id = await queue(connection, tmp_path, max_steps=250, epochs=65)
    await workers.data_of(run_id)
    workers.start("one")

    async def trains() -> bool:
        return len(workers.metrics(run_id)) > 10

    await until("it trains", trains)
    idle = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'UPDATE training_runs%' AND state = 'idle'"
    stopped: list[int] = []

    async def stopped_while_idle() -> bool:
        """One that is stopped in a statement would hold its locks, too."""
        backend = await connection.fetchval(idle)
        if backend is None:
            return False
        os.kill(backend, signal.SIGSTOP)
        if await connection.fetchval(idle) == backend:
            stopped.append(backend)
        else:
            os.kill(backend, signal.SIGCONT)
        return bool(stopped)

    await until("its connection is stopped", stopped_while_idle)
    most = 0
    try:
        workers.start("two", lease_s=60.0)

        async def ended() -> bool:
            nonlocal most
            most = max(most, workers.trainings(run_id))
            return (await row(connection, run_id))["finish_time"] is not None

        await until("it has ended", ended)
    finally:
        os.kill(stopped[0], signal.SIGCONT)
    found = await row(connection, run_id)
    assert (found["state"], found["attempt"], found["lost_count"]) == ("SUCCEEDED", 2, 1)
    assert most == 1
    assert workers.metrics(run_id) == list(range(1, 251))


async def test_what_is_away_is_waited_for_and_a_cancellation_waits_for_a_worker(
    connection: Connection, workers: Workers, small: Path, tmp_path: Path
) -> None:
    """No Triton: tried again later, longer each time, and never a lost worker. Something of it may be published, so
    that a worker ends it when it is cancelled.
    """
    run_id = await queue(connection, tmp_path)
    await connection.execute("UPDATE training_runs SET publish = true, retry_count = 3")
    shutil.copytree(small / "base", (await workers.data_of(run_id)).result)
    away = ("--endpoint", "127.0.0.1:1", "--triton-url", "127.0.0.1:1", "--repository", str(tmp_path))
    workers.start("one", *away, "--poll", "60", lease_s=60.0)

    async def given_back() -> bool:
        return (await row(connection, run_id))["retry_count"] == 4

    await until("it is given back", given_back)
    found = await connection.fetchrow("SELECT *, retry_time - now() AS delay FROM training_runs")
    assert (found["state"], found["attempt"], found["lost_count"]) == ("QUEUED", 1, 0)
    assert 400 < found["delay"].total_seconds() < 481
    queue_of_another = RunQueue(workers.url, "another", 60.0)
    assert await queue_of_another.claim() is None
    assert await queue_of_another.has_queued()
    await queue_of_another.close()

    await connection.execute(load_queries("training.sql")["cancel_run"], run_id)
    found = await row(connection, run_id)
    assert (found["state"], found["cancel_requested"]) == ("QUEUED", True)
    workers.start("two", *away)

    async def cancelled() -> bool:
        return bool((await row(connection, run_id))["state"] == "CANCELLED")

    await until("it is cancelled", cancelled)


async def test_without_its_database_a_worker_ends_where_it_need_not_wait(postgres: Postgres, tmp_path: Path) -> None:
    """`--until-empty` on a database that is away; and any worker on one that refuses, which no waiting mends."""
    away, refusing = "postgresql://duovec@127.0.0.1:1/duovec", f"{postgres.url}_of_nobody"
    command = [sys.executable, "-m", "training", "worker", "--work-dir", str(tmp_path)]
    started = [
        await asyncio.create_subprocess_exec(*command, *options, "--database-url", url, stderr=asyncio.subprocess.PIPE)
        for url, options in ((away, ["--until-empty"]), (refusing, []))
    ]
    told = [(await one.communicate())[1].decode() for one in started]
    assert [one.returncode for one in started] == [1, 1]
    assert "error: the database is away" in told[0]
    assert "refuses: database" in told[1]
    assert "does not exist" in told[1]
    with pytest.raises(TrainingError, match="does not exist") as refused:
        await asyncio.to_thread(Ledger(refusing).__enter__)
    assert not isinstance(refused.value, Unfinished)


async def test_a_run_is_cancelled_or_given_back(connection: Connection, workers: Workers, tmp_path: Path) -> None:
    """Within the training: its process ends first. A worker that is stopped leaves its run to others at once."""
    run_id = await queue(connection, tmp_path, max_steps=100_000, epochs=10_000)
    await workers.data_of(run_id)
    worker = workers.start("one", lease_s=60.0)

    async def trains() -> bool:
        return len(workers.metrics(run_id)) > 3

    await until("it trains", trains)
    worker.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.wait, 60) == 0
    assert workers.children() == []
    given = await row(connection, run_id)
    assert (given["state"], given["lease_until"], given["attempt"]) == ("QUEUED", None, 1)

    reached = len(workers.metrics(run_id))
    workers.start("two")

    async def trains_on() -> bool:
        return len(workers.metrics(run_id)) > reached + 3

    await until("it goes on", trains_on)
    await connection.execute("UPDATE training_runs SET cancel_requested = true WHERE run_id = $1", run_id)

    async def cancelled() -> bool:
        return bool((await row(connection, run_id))["state"] == "CANCELLED")

    await until("it is cancelled", cancelled)
    assert workers.children() == []
    assert not (workers.folder(run_id) / "train" / "result").exists()


async def test_a_recipe_that_does_not_do_ends_the_run_with_its_reason(
    connection: Connection, workers: Workers, tmp_path: Path
) -> None:
    """One line, which names the key; and the next run is worked on."""
    for recipe, publish in (
        ('encoder = "small.toml"\nspeed = 9\n[optimizer]\nlearning_rate = 1.0\n', False),
        ('encoder = "nobody"\n[optimizer]\nlearning_rate = 1.0\n', False),
        ('encoder = "small.toml"\n[optimizer]\nlearning_rate = 1.0\n', True),
    ):
        await connection.execute(
            "INSERT INTO training_runs (recipe, encoder, codebase_ids, device, publish, principal_id)"
            " VALUES ($1, 'small.toml', '{}', 'cpu', $2, 'admin')",
            recipe,
            publish,
        )
    await connection.execute(
        "INSERT INTO training_runs (recipe, encoder, codebase_ids, device, publish, principal_id, state, attempt,"
        " lost_count, lease_until)"
        " VALUES ('x', 'small.toml', '{}', 'cpu', false, 'admin', 'RUNNING', 12, 9, now() - interval '1 s')"
    )
    # Its data came from a codebase that was deleted: it is mined again, from what is left.
    await store_library(connection, ["json", "html", "wsgiref"])
    folder = await workers.data_of(await queue(connection, tmp_path))
    (folder.data / "card.json").write_text(json.dumps({"sources": [{"name": "library"}, {"name": "deleted"}]}))
    workers.start("one")

    async def ended() -> bool:
        return not await connection.fetchval("SELECT count(*) FROM training_runs WHERE finish_time IS NULL")

    await until("all have ended", ended)
    rows = await connection.fetch("SELECT state, error_reason, error FROM training_runs ORDER BY run_id")
    assert {one["state"] for one in rows} == {"FAILED"}
    assert [one["error_reason"] for one in rows] == [
        "RECIPE_INVALID",
        "RECIPE_INVALID",
        "WORKER_CANNOT_PUBLISH",
        "WORKERS_LOST",
        "INSUFFICIENT_TRAINING_DATA",
    ]
    assert "unknown key speed" in rows[0]["error"]
    assert all("\n" not in one["error"] for one in rows)
