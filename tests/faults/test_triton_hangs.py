"""A Triton that hangs, and goes on or does not: no vector of another text, and it serves again by itself."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import pytest
from fault_caller import Caller
from fault_site import until
from numpy.typing import NDArray

from gateway.client.errors import ClientError
from gateway.local import liveness, triton
from gateway.local.part import PartEvent, PartState
from gateway.local.stack import Stack, StackSettings

pytestmark = pytest.mark.alone

TEXTS = [f"def area_{number}(width, height):\n    return width * height + {number}\n" for number in range(40)]
# What says that it passes.
PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}


@dataclass
class Watched:
    """A stack that is looked after, and what was said of its Triton."""

    stack: Stack
    events: list[PartEvent] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """Of the Triton that became ready last."""
        return next(event.pid or 0 for event in reversed(self.events) if event.state is PartState.READY)

    def failures(self) -> list[str]:
        """Why it was started again, each time."""
        return [event.detail for event in self.events if event.state is PartState.FAILED]


@pytest.fixture
async def watched(fault_dir: Path, published_models: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    """With less patience than usual: half a minute of it would be waited for in vain."""
    monkeypatch.setattr(triton, "_LIVENESS_PERIOD_S", 1.0)
    monkeypatch.setattr(triton, "_LIVENESS_AGAIN_S", 0.5)
    monkeypatch.setenv("DUOVEC_CACHE_MAX_TEXTS", "0")
    events: list[PartEvent] = []
    settings = StackSettings(data_dir=fault_dir, model_repository=published_models, listen="127.0.0.1:0")

    def on_event(event: PartEvent) -> None:
        if event.part == "triton":
            events.append(event)

    async with Stack(settings, on_event=on_event) as stack:
        stopping = asyncio.Event()
        running = asyncio.create_task(stack.run_until(stopping))
        yield Watched(stack, events)
        stopping.set()
        await running


@pytest.fixture
async def caller(watched: Watched) -> AsyncIterator[Caller]:
    async with grpc.aio.insecure_channel(watched.stack.endpoint) as channel:
        yield Caller(channel, watched.stack.endpoint, api_key=watched.stack.api_key)


async def vectors(caller: Caller, texts: list[str]) -> NDArray[np.float32]:
    """(B, 2560)."""
    response = await caller.embed(texts, timeout_s=60)
    return np.array([embedding.vector.values for embedding in response.embeddings], dtype=np.float32)


async def until_right(caller: Caller, expected_BV: NDArray[np.float32]) -> None:
    """Wait until every text has its vector again; never has one another's."""

    async def is_right() -> bool:
        try:
            found_BV = await vectors(caller, TEXTS)
        except ClientError as error:
            if error.code not in PASSING:
                raise
            return False
        assert (found_BV * expected_BV).sum(axis=1).min() > 0.999
        return True

    await until(is_right, timeout_s=90, pause_s=0.2)


async def test_one_that_was_stopped_and_goes_on_gives_no_text_the_vector_of_another(
    watched: Watched, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than Triton has patience with its own processes, and shorter than others have with it; under load."""
    expected_BV = await vectors(caller, TEXTS)
    calls = [asyncio.create_task(vectors(caller, [TEXTS[number % 40]])) for number in range(200)]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    os.killpg(watched.pid, signal.SIGSTOP)
    await asyncio.sleep(6.5)
    os.killpg(watched.pid, signal.SIGCONT)
    for number, outcome in enumerate(await asyncio.gather(*calls, return_exceptions=True)):
        if isinstance(outcome, BaseException):
            assert isinstance(outcome, ClientError) and outcome.code in PASSING, outcome
        else:
            assert float(outcome[0] @ expected_BV[number % 40]) > 0.999
    await until_right(caller, expected_BV)

    # And one that never goes on.
    stopped = watched.pid
    seen = len(watched.failures())
    monkeypatch.setattr(liveness, "TIMEOUT_S", 1.0)
    os.killpg(stopped, signal.SIGSTOP)
    await until(lambda: len(watched.failures()) > seen)
    assert watched.failures()[-1].startswith(
        "triton does not answer (no answer to repository/index in time); its log is "
    )
    await until(lambda: watched.pid != stopped)
    await until_right(caller, expected_BV)
