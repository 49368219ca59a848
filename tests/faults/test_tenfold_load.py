"""Ten times the load that the encoders can take: bounded memory, nobody waits in vain, and full speed right after."""

import asyncio
import itertools
import time
from collections import Counter
from dataclasses import dataclass, field

import grpc
import pytest
from fault_caller import API_KEY, Caller
from fault_site import Backends
from gateway_gauge import Gauge
from soak_run import SoakRun

from gateway.client.client import Client
from gateway.client.errors import ClientError

pytestmark = pytest.mark.alone

DEADLINE_S = 20.0
MAX_PENDING_TOKENS = 16384
_BODY = "".join(f"    total_{line} = first + second * {line}\n" for line in range(12))
_numbers = itertools.count()


def texts() -> list[str]:
    """Two functions that nobody has embedded before, of natural length."""
    return [f"def function_{next(_numbers)}(first, second):\n{_BODY}" for _ in range(2)]


@dataclass
class Outcomes:
    """How calls ended."""

    codes: Counter[str] = field(default_factory=Counter)
    without_delay: int = 0
    longest_s: float = 0.0
    tokens: int = 0

    async def call(self, caller: Caller) -> None:
        """Make one call."""
        begun = time.monotonic()
        try:
            reply = await caller.embed(texts(), timeout_s=DEADLINE_S)
        except ClientError as error:
            self.codes[error.code.name] += 1
            refused = error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            self.without_delay += refused and error.retry_delay_s is None
        else:
            self.codes["OK"] += 1
            self.tokens += sum(one.code_token_count + one.text_token_count for one in reply.embeddings)
            self.longest_s = max(self.longest_s, time.monotonic() - begun)


async def rate(caller: Caller, seconds: float) -> float:
    """Calls a second that are answered where eight callers wait for each answer."""
    outcomes, end = Outcomes(), time.monotonic() + seconds

    async def work() -> None:
        while time.monotonic() < end:
            await outcomes.call(caller)

    begun = time.monotonic()
    await asyncio.gather(*(work() for _ in range(8)))
    assert set(outcomes.codes) == {"OK"}
    return outcomes.codes["OK"] / (time.monotonic() - begun)


@pytest.mark.soak
async def test_ten_times_the_load(backends: Backends, database_url: str, soak: SoakRun) -> None:
    gateway = backends.gateway(database_url, "tenfold", max_pending_tokens=str(MAX_PENDING_TOKENS), cache_max_texts="0")
    await gateway.start()
    gauge = Gauge(gateway.pid, database_url)
    seconds = 120.0 if soak.is_long else 8.0
    outcomes = Outcomes()
    async with grpc.aio.insecure_channel(gateway.url) as channel:
        caller = Caller(channel, gateway.url)
        await rate(caller, 1)
        usual = await rate(caller, 3)
        before = gauge.held()
        async with gauge.watching(), asyncio.TaskGroup() as load:
            begun = time.monotonic()
            # By the clock, whether or not anybody was answered.
            for number in range(round(10 * usual * seconds)):
                await asyncio.sleep(max(0.0, begun + number / (10 * usual) - time.monotonic()))
                load.create_task(outcomes.call(caller))
                if number % 2000 == 0:
                    soak.progress(f"{number:,} calls, {dict(outcomes.codes)}, {gauge.held()}")
        took_s = time.monotonic() - begun
        after = await rate(caller, 3)
    # What is admitted is in line before the last that is.
    line_s = MAX_PENDING_TOKENS / (outcomes.tokens / took_s)
    figures = {
        "seconds": round(took_s, 1),
        "calls": outcomes.codes.total(),
        "codes": dict(outcomes.codes),
        "longest wait of an admitted call, s": round(outcomes.longest_s, 2),
        "all that may wait, s": round(line_s, 2),
        "calls/s before": round(usual, 1),
        "calls/s answered meanwhile": round(outcomes.codes["OK"] / took_s, 1),
        "calls/s after": round(after, 1),
        "MB before": before.rss_mb,
        "MB at most": gauge.most_rss_mb,
    }
    soak.report("tenfold load", figures)
    # Admitted in time or refused: nothing else, and whoever is refused is told when to come back.
    assert set(outcomes.codes) == {"OK", "RESOURCE_EXHAUSTED"}, figures
    assert outcomes.without_delay == 0
    assert outcomes.longest_s < 2 * line_s + 1, figures
    assert outcomes.codes["RESOURCE_EXHAUSTED"] > outcomes.codes["OK"]
    assert gauge.most_rss_mb - before.rss_mb < 150, figures
    # A queue that lingers, or a rate that was learnt wrong, would show as much less; the machine's own moods do not.
    assert after > usual / 2, figures
    with Client(gateway.url, api_key=API_KEY) as client:
        assert client.health() == "SERVING"
    await gateway.stop()
