"""What the canary's fate says of the service."""

import asyncio
from typing import Any

import numpy as np
import pytest
from grpc_health.v1 import health, health_pb2

from gateway.embedding.embedder import QueryVector
from gateway.embedding.triton import Priority
from gateway.embedding.vectors import Vectors
from gateway.errors import DatabaseUnavailable, DeadlineExceeded, SpaceMismatch, SpaceNotReady, TritonUnavailable
from gateway.rpc import health as health_module
from gateway.rpc.health import HealthMonitor
from gateway.spaces.serving import ServedSpace, Serving

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Embedder:
    """Embeds at once, or keeps the canary waiting while it answers others, or nobody."""

    def __init__(self) -> None:
        self.encoded_count = 0
        self.doubt_count = 0
        self.hangs = False
        self.answers_others = False
        self.hangs_over_passages = False
        self.error: Exception | None = None

    def doubt(self) -> None:
        self.doubt_count += 1

    async def check_ready(self, *, timeout_s: float) -> None:
        if self.error:
            raise self.error

    async def embed_query(self, tokenized: Any, **options: Any) -> QueryVector:
        if self.hangs:
            self.encoded_count += self.answers_others
            await asyncio.Event().wait()
        self.encoded_count += 1
        ones_V = np.ones(2560, dtype=np.float32)
        return QueryVector(ones_V, 1.0, truncated=False, missing_encoder="", plain_V=ones_V)

    async def tokenize(self, texts: Any, input_type: Any) -> Any:
        return texts

    async def encode(self, tokenized: Any, *, priority: Priority, timeout_s: float) -> Vectors:
        if self.hangs_over_passages:
            await asyncio.Event().wait()
        self.encoded_count += 1
        return Vectors(np.ones((1, 2560), dtype=np.float32), {})


class Database:
    """Finds the canary, or fails."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.answers_others = False
        self.found = 0
        self.finished_count = 0

    def as_system(self) -> "Database":
        return self

    async def find_canary(self, *arguments: Any, **options: Any) -> None:
        self.finished_count += self.answers_others
        if self.error:
            raise self.error
        self.found += 1


@pytest.fixture
def embedder() -> Embedder:
    return Embedder()


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    database = Database()
    monkeypatch.setattr(health_module, "find_canary", database.find_canary)
    for name in ("_TIMEOUT_S", "_SERVING_PERIOD_S", "_FAILING_PERIOD_S"):
        monkeypatch.setattr(health_module, name, 0.01)
    return database


class FollowingNobody(Serving):
    """Another space is active by now, and this gateway has no encoders of it."""

    async def refresh(self) -> None:
        raise SpaceNotReady("no loaded versions make it")


async def status_after_checks(
    embedder: Any, database: Any, count: int, change: Any, *, filled: tuple[ServedSpace, ...] = ()
) -> int:
    """The status after one check, `change`, and `count` checks more."""
    serving = FollowingNobody(None, None, ServedSpace(1, embedder))  # type: ignore[arg-type]
    serving._filled = filled
    servicer = health.aio.HealthServicer()
    checks = 0

    class Counted(HealthMonitor):
        async def _check(self) -> Exception | None:
            nonlocal checks
            error = await super()._check()
            checks += 1
            if checks == 1:
                change()
            return error

    task = asyncio.create_task(Counted(servicer, [""], serving, database).run())
    while checks < 2 + count:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return (await servicer.Check(health_pb2.HealthCheckRequest(), None)).status


async def test_a_canary_that_is_found_means_serving(embedder: Embedder, database: Database) -> None:
    assert await status_after_checks(embedder, database, 2, lambda: None) == SERVING


async def test_a_server_that_answers_others_is_busy_and_serves(embedder: Embedder, database: Database) -> None:
    """Taken out for its load, it would leave that load to the next one."""

    def change() -> None:
        embedder.hangs = embedder.answers_others = True

    assert await status_after_checks(embedder, database, 3, change) == SERVING
    assert database.found >= 3  # the store is looked at all the same


async def test_a_server_that_answers_nobody_does_not_serve(embedder: Embedder, database: Database) -> None:
    def change() -> None:
        embedder.hangs = True

    assert await status_after_checks(embedder, database, 1, change) == NOT_SERVING


async def test_a_server_that_answers_only_its_own_query_does_not_serve(embedder: Embedder, database: Database) -> None:
    """The canary's query is nobody else's answer."""

    def change() -> None:
        embedder.hangs_over_passages = True

    assert await status_after_checks(embedder, database, 1, change) == NOT_SERVING


async def test_a_server_whose_database_answers_others_is_busy_and_serves(
    embedder: Embedder, database: Database
) -> None:
    """In a rush the canary stands in line for a connection as everybody does, and everybody is answered."""

    def change() -> None:
        database.error, database.answers_others = DeadlineExceeded("no database connection came free within 5 s"), True

    assert await status_after_checks(embedder, database, 3, change) == SERVING


async def test_a_server_whose_database_answers_nobody_does_not_serve(embedder: Embedder, database: Database) -> None:
    def change() -> None:
        database.error = DeadlineExceeded("no database connection came free within 5 s")

    assert await status_after_checks(embedder, database, 1, change) == NOT_SERVING


async def test_a_canary_that_never_ends_means_not_serving(
    embedder: Embedder, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it waits for: else the last verdict, which was good, would stand for ever."""

    async def hang(*arguments: Any, **options: Any) -> None:
        await asyncio.Event().wait()

    def change() -> None:
        monkeypatch.setattr(health_module, "_CHECK_TIMEOUT_S", 0.01)
        monkeypatch.setattr(health_module, "find_canary", hang)

    assert await status_after_checks(embedder, database, 1, change) == NOT_SERVING


async def test_a_verdict_that_is_old_is_none(
    embedder: Embedder, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks from another thread, as metrics do, would see a gateway serve whose event loop stands still."""
    serving = FollowingNobody(None, None, ServedSpace(1, embedder))  # type: ignore[arg-type]
    monitor = HealthMonitor(health.aio.HealthServicer(), [""], serving, database)  # type: ignore[arg-type]
    assert (monitor.is_serving, monitor.age_s) == (False, None)
    monkeypatch.setattr(health_module, "_SERVING_PERIOD_S", 60.0)
    task = asyncio.create_task(monitor.run())
    while not monitor.is_serving:
        await asyncio.sleep(0)
    assert monitor.age_s is not None
    assert 0 <= monitor.age_s < 20
    monkeypatch.setattr(health_module, "_STALE_S", 0.0)
    assert not monitor.is_serving
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_busy_server_without_its_database_does_not_serve(embedder: Embedder, database: Database) -> None:
    def change() -> None:
        embedder.hangs = embedder.answers_others = True
        database.error = DatabaseUnavailable("down")

    assert await status_after_checks(embedder, database, 1, change) == NOT_SERVING


async def test_a_server_whose_triton_is_away_does_not_serve(embedder: Embedder, database: Database) -> None:
    def change() -> None:
        embedder.encoded_count += 1
        embedder.error = TritonUnavailable("away")

    assert await status_after_checks(embedder, database, 1, change) == NOT_SERVING


async def test_a_server_that_cannot_embed_in_the_active_space_does_not_serve(
    embedder: Embedder, database: Database
) -> None:
    """Everything that is asked of it is refused, while its encoders and its old space are sound."""

    def change() -> None:
        database.error = SpaceMismatch("space 1 is not the active one any more")

    assert await status_after_checks(embedder, database, 1, change) == NOT_SERVING


async def test_the_models_of_filled_spaces_are_proven_again_too(
    embedder: Embedder, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else would notice that theirs changed: the active space's may be the same as before."""
    monkeypatch.setattr(health_module, "_PROOF_PERIOD_S", 0.0)
    beside = Embedder()
    await status_after_checks(
        embedder,
        database,
        2,
        lambda: None,
        filled=(ServedSpace(2, beside),),  # type: ignore[arg-type]
    )
    assert beside.doubt_count >= 2


async def test_the_models_are_proven_again_now_and_then(
    embedder: Embedder, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton may have been started again between two calls, on other models."""
    monkeypatch.setattr(health_module, "_PROOF_PERIOD_S", 0.0)
    await status_after_checks(embedder, database, 2, lambda: None)
    assert embedder.doubt_count >= 2
    embedder.doubt_count = 0
    monkeypatch.setattr(health_module, "_PROOF_PERIOD_S", 3600.0)
    await status_after_checks(embedder, database, 2, lambda: None)
    assert embedder.doubt_count == 0
