"""The task that watches recall beside the service."""

import asyncio
import logging
from types import SimpleNamespace

import pytest

from gateway.errors import DatabaseUnavailable
from gateway.spaces import recall
from gateway.spaces.recall import watch_recall


class Watch:
    """Fails twice, then works. A test double: it measures nothing."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.worked = asyncio.Event()

    async def check_due(self, space_key: int) -> list[int]:
        self.asked.append(space_key)
        if len(self.asked) == 1:
            raise DatabaseUnavailable("away")
        if len(self.asked) == 2:
            raise ZeroDivisionError
        self.worked.set()
        return []


async def test_it_outlives_failures_and_follows_the_active_space(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for the task before the shutdown: whatever happens is logged, and tried again."""
    monkeypatch.setattr(recall, "_LOOK_S", 0.0)
    watch, serving = Watch(), SimpleNamespace(active=SimpleNamespace(space_key=1))
    task = asyncio.create_task(watch_recall(watch, serving))  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        while len(watch.asked) < 2:
            await asyncio.sleep(0)
        serving.active = SimpleNamespace(space_key=2)
        await watch.worked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert watch.asked[:3] == [1, 1, 2]
    levels = [record.levelno for record in caplog.records]
    assert levels == [logging.WARNING, logging.ERROR]
