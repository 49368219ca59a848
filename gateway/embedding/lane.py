"""How bulk work shares an encoder with those who wait for an answer."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from gateway.telemetry.stages import Stage, stage


@dataclass(frozen=True, slots=True)
class Quantum:
    """What bulk work gives an encoder at a time.

    Attributes:
        budgets: Tokens of a request, in budgets of the backend (what it runs at once).
        in_flight: Requests at once.
    """

    budgets: int
    in_flight: int


# What runs is not interrupted, and Triton merges what waits: whoever comes is next after these. By
# `tests/benchmarks/interference.py`, see DECISIONS.md.
ALONE = Quantum(budgets=2, in_flight=2)
BESIDE_CALLERS = Quantum(budgets=1, in_flight=1)
_CALLER_S = 0.5
"""For how long after a caller the next one is expected. The canary of the health check calls every 5 s."""


class BulkLane:
    """Slots for the bulk requests of one encoder: fewer and smaller ones while somebody else asks it."""

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self._callers = 0
        self._called_at = -math.inf
        self._in_flight = 0
        self._freed = asyncio.Condition()

    @property
    def quantum(self) -> Quantum:
        """The one of this moment."""
        called = self._callers > 0 or time.monotonic() - self._called_at < _CALLER_S
        return BESIDE_CALLERS if called else ALONE

    @contextmanager
    def caller(self) -> Iterator[None]:
        """Somebody waits for an answer for the length of the block."""
        self._callers += 1
        try:
            yield
        finally:
            self._callers -= 1
            self._called_at = time.monotonic()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Quantum]:
        """Wait for a slot and hold it; gives how much a request in it may have."""
        with stage(Stage.QUEUE, "wait for a slot"):
            async with self._freed:
                await self._freed.wait_for(lambda: self._in_flight < self.quantum.in_flight)
                self._in_flight += 1
        try:
            yield self.quantum
        finally:
            self._in_flight -= 1
            async with self._freed:
                self._freed.notify_all()
