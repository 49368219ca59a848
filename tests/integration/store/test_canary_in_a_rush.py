"""The canary beside callers who take every connection: whether they are answered is what tells busy from down."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from grpc_health.v1 import health
from store_callers import make_caller
from store_samples import make_vectors

from gateway.embedding.vectors import Vectors
from gateway.rpc import health as health_module
from gateway.rpc.health import HealthMonitor
from gateway.spaces.serving import ServedSpace, Serving
from gateway.store.api_key import ApiKey
from gateway.store.caller import acting_with
from gateway.store.pool import Database
from gateway.store.rows import SpaceRow


class Embedder:
    """Embeds at once. A test double: it runs no model."""

    encoded_count = 0

    async def check_ready(self, *, timeout_s: float) -> None:
        return None

    async def tokenize(self, texts: Any, input_type: Any) -> Any:
        return texts

    async def embed_query(self, *arguments: Any, **options: Any) -> Any:
        return SimpleNamespace(vector_V=make_vectors(1)[0])

    async def encode(self, *arguments: Any, **options: Any) -> Vectors:
        return Vectors(make_vectors(1), {})


@pytest.fixture
async def small(url: str) -> AsyncIterator[Database]:
    """As callers use it, with one connection."""
    database = await Database.connect(url, min_size=1, max_size=1)
    yield database
    await database.close()


@pytest.fixture
async def caller(database: Database) -> ApiKey:
    return await make_caller(database, "somebody")


def monitor_of(database: Database, space: SpaceRow) -> HealthMonitor:
    serving = Serving(None, None, ServedSpace(space.space_key, Embedder()))  # type: ignore[arg-type]
    return HealthMonitor(health.aio.HealthServicer(), [""], serving, database)


async def test_it_serves_while_callers_are_answered_and_not_when_nobody_is(
    small: Database, space: SpaceRow, caller: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken out in a rush, a gateway would leave it to the next one."""
    monitor = monitor_of(small, space)
    assert await monitor._check() is None
    monkeypatch.setattr(health_module, "_TIMEOUT_S", 1.0)

    async def ask(seconds: float) -> None:
        with acting_with(caller):
            async with small.acquire(60) as connection:
                await connection.fetchval("SELECT pg_sleep($1)", seconds)

    rush = [asyncio.create_task(ask(0.1)) for _ in range(40)]
    while not small.busy_count:
        await asyncio.sleep(0)
    assert await monitor._check() is None
    assert not all(one.done() for one in rush)
    await asyncio.gather(*rush)

    hanging = asyncio.create_task(ask(60))
    while not small.busy_count:
        await asyncio.sleep(0)
    assert str(await monitor._check()) == "the canary was not found in 1 s, nor anything else"
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)
    monkeypatch.undo()
    assert await monitor._check() is None
