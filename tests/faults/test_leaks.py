"""Thousands of calls that are cancelled, expire or are answered leave nothing behind: no task, file or memory."""

import asyncio
import contextlib
import gc
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import cache_writes
import grpc
import pytest
from fault_caller import API_KEY, Caller, Parts, chunk_request
from fault_site import Backends, until
from fuzz_caller import complaints
from gateway_gauge import Gauge, busy_connections
from soak_run import SoakRun

from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.settings import Settings

pytestmark = pytest.mark.alone

AT_ONCE = 50
POOL_SIZE = Settings.model_fields["database_pool_size"].default
_numbers = itertools.count()
Call = Callable[[float], Coroutine[Any, Any, object]]


def calls(caller: Caller) -> list[Call]:
    """One of each kind: through the encoders, the database, both, and streams."""

    def embed(timeout_s: float) -> Coroutine[Any, Any, object]:
        return caller.embed([f"def unseen_{next(_numbers)}(x): return x"], timeout_s=timeout_s)

    def search(timeout_s: float) -> Coroutine[Any, Any, object]:
        return caller.search("leaks", f"what was asked never {next(_numbers)}", timeout_s=timeout_s)

    def known(timeout_s: float) -> Coroutine[Any, Any, object]:
        return caller.search("leaks", "multiply by 7", timeout_s=timeout_s)

    def index(timeout_s: float) -> Coroutine[Any, Any, object]:
        return caller.index([chunk_request("leaks", next(_numbers) % 1000) for _ in range(3)], timeout_s=timeout_s)

    return [embed, search, known, index]


async def cancelled(kinds: list[Call], count: int, soak: SoakRun) -> None:
    """Begin calls, and cancel each a moment later."""
    chance = soak.chance("cancelled")
    for start in range(0, count, AT_ONCE):
        tasks = [asyncio.create_task(ended(kinds[number % len(kinds)](30))) for number in range(start, start + AT_ONCE)]
        for task in tasks:
            await asyncio.sleep(chance.uniform(0, 0.002))
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def expired(kinds: list[Call], count: int, soak: SoakRun) -> Counter[str]:
    """Make calls with less time than they need; gives how they ended."""
    chance = soak.chance("expired")
    outcomes: Counter[str] = Counter()
    for start in range(0, count, AT_ONCE):
        made = [kinds[number % len(kinds)](chance.uniform(0.001, 0.03)) for number in range(start, start + AT_ONCE)]
        outcomes.update(await asyncio.gather(*(ended(one) for one in made)))
    return outcomes


async def ended(call: Coroutine[Any, Any, object]) -> str:
    try:
        await call
    except asyncio.CancelledError:
        # By `cancelled`; or by gRPC itself, for a stream whose time is over while its requests are being written.
        return "CANCELLED"
    except ClientError as error:
        # The client's own word where the time was over before the call began.
        return "CANCELLED" if "Internal error from Core" in str(error) else error.code.name
    return "OK"


@pytest.fixture
async def caller(parts: Parts) -> AsyncIterator[Caller]:
    async with grpc.aio.insecure_channel(parts.endpoint) as channel:
        caller = Caller(channel, parts.endpoint)
        await caller.until_serving(True)
        await caller.create("leaks")
        await caller.index([chunk_request("leaks", number) for number in range(10)])
        yield caller


async def test_no_task_and_no_transaction_outlives_its_call(parts: Parts, caller: Caller, soak: SoakRun) -> None:
    """The gateway runs in this loop, so that its tasks are seen."""
    kinds = calls(caller)
    await cancelled(kinds, 100, soak)
    await asyncio.gather(*(ended(kind(30)) for kind in kinds))

    async def at_rest() -> bool:
        return await busy_connections(parts.database_url) == 0

    await until(at_rest)
    # What the calls had embedded is written into the cache a moment after them.
    await until(lambda: not cache_writes.are_under_way())
    gc.collect()
    before = task_names()
    await cancelled(kinds, 500, soak)
    await expired(kinds, 500, soak)
    with contextlib.suppress(TimeoutError):
        await until(lambda: not task_names() - before, timeout_s=30)
    assert task_names() - before == Counter()
    await until(at_rest)


def task_names() -> Counter[str]:
    return Counter(str(task.get_coro()).split(" at 0x")[0] for task in asyncio.all_tasks())


@pytest.mark.soak
async def test_a_process_holds_after_thousands_of_broken_calls_what_it_held_before(
    backends: Backends, database_url: str, soak: SoakRun
) -> None:
    """1,000 cancelled and 1,000 expired, after as many that warmed it up; 50 times as many in the long form."""
    gateway = backends.gateway(database_url, "leaks")
    await gateway.start()
    gauge = Gauge(gateway.pid, database_url)
    async with grpc.aio.insecure_channel(gateway.url) as channel:
        caller = Caller(channel, gateway.url)
        await caller.create("leaks")
        kinds = calls(caller)
        count = 50_000 if soak.is_long else 1000
        await cancelled(kinds, 1000, soak)
        await expired(kinds, 1000, soak)
        await settled(caller, database_url)
        before = gauge.held()
        await cancelled(kinds, count, soak)
        outcomes = await expired(kinds, count, soak)
        await settled(caller, database_url)
        assert outcomes["DEADLINE_EXCEEDED"] > count / 4
        assert set(outcomes) <= {"OK", "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED"}
        await until(lambda: gauge.held().files <= before.files, timeout_s=30)
        after = gauge.held()
        assert after.connections <= POOL_SIZE
        assert after.threads <= before.threads + 2
        assert after.rss_mb - before.rss_mb < 30
    soak.report("broken calls", {"calls": 2 * count, "before": vars(before), "after": vars(after)})
    assert complaints(backends.log_path("leaks")) == ""
    await gateway.stop()


async def settled(caller: Caller, database_url: str) -> None:
    """Return once nobody's call is in work any more."""

    async def at_rest() -> bool:
        return await busy_connections(database_url) == 0

    await caller.until_serving(True)
    await until(at_rest)


@pytest.mark.soak
async def test_memory_is_flat_over_many_requests(backends: Backends, database_url: str, soak: SoakRun) -> None:
    """5,000 in the short form, 100,000 in the long one; a fifth of them warms it up."""
    gateway = backends.gateway(database_url, "flat")
    await gateway.start()
    gauge = Gauge(gateway.pid, database_url)
    count = 100_000 if soak.is_long else 5000
    begun = time.monotonic()
    async with grpc.aio.insecure_channel(gateway.url) as channel:
        caller = Caller(channel, gateway.url)
        await caller.create("leaks")
        await caller.index([chunk_request("leaks", number) for number in range(20)])
        await answered(caller, count // 5)
        before = gauge.held()
        for part in range(4):
            await answered(caller, count // 5)
            soak.progress(f"{(part + 2) * count // 5:,} requests, {gauge.held()}")
        after = gauge.held()
    soak.report(
        "flat memory",
        {"requests": count, "seconds": round(time.monotonic() - begun), "before": vars(before), "after": vars(after)},
    )
    assert after.rss_mb - before.rss_mb < 15
    assert after.files <= before.files + 4
    assert after.connections <= POOL_SIZE
    with Client(gateway.url, api_key=API_KEY) as client:
        assert client.health() == "SERVING"
    await gateway.stop()


async def answered(caller: Caller, count: int) -> None:
    """Make calls that are answered, most of which need no encoder."""
    left = itertools.count()

    async def work() -> None:
        while (number := next(left)) < count:
            match number % 50:
                case 0:
                    await caller.embed([f"def never_{next(_numbers)}(): pass"], timeout_s=30)
                case 1:
                    await caller.index([chunk_request("leaks", number % 20)])
                case kind if kind % 2:
                    assert (await caller.search("leaks", f"multiply by {kind}", timeout_s=30)).hits
                case _:
                    await caller.chunk_count("leaks")

    await asyncio.gather(*(work() for _ in range(8)))
