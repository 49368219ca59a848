"""How all who ask an encoder share its requests, and how bulk work makes room for those who wait for an answer."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.embedding.row_pool import Batch, Row, RowPool
from gateway.embedding.space import Encoder, InputType
from gateway.errors import TritonUnavailable
from gateway.telemetry.stages import Stage, stage

Infer = Callable[[Encoder, list[NDArray[np.int64]], InputType, float], Awaitable[NDArray[np.float32]]]
"""One request: of an encoder, for rows of token ids, with a budget in seconds; gives a vector a row, (B, D)."""


@dataclass(frozen=True, slots=True)
class Quantum:
    """What a lane gives an encoder at a time.

    Attributes:
        budgets: Micro-batches of the backend that a request is made for.
        in_flight: Requests at once, of an encoder that runs in up to two processes.
    """

    budgets: int
    in_flight: int

    def in_flight_of(self, instances: int) -> int:
        """Requests at once of an encoder that runs in so many processes, in proportion to two, which were measured."""
        return self.in_flight * max(instances, 2) // 2


# What runs is not interrupted, and Triton merges what waits: whoever comes is next after these. By
# `tests/benchmarks/interference.py`, see DECISIONS.md.
INTERACTIVE = Quantum(budgets=1, in_flight=2)
ALONE = Quantum(budgets=2, in_flight=2)
BESIDE_CALLERS = Quantum(budgets=1, in_flight=1)
_CALLER_S = 0.5
"""For how long after a caller the next one is expected. The canary of the health check calls every 5 s."""
CALLER_S_PER_TOKEN, CALLER_MOST_S = 5e-3, 5.0
"""How much longer than a shorter call a call waits for its turn, and at most: fifty times what its tokens take. A query
passes calls of a few texts that have waited for a second, and a large call waits seconds for those that come later."""


def caller_postponed_s(tokens: int) -> float:
    """How much later the turn of a call of so many tokens is, seconds."""
    return min(tokens * CALLER_S_PER_TOKEN, CALLER_MOST_S)


class Callers:
    """Whether somebody waits for an answer of an encoder."""

    def __init__(self) -> None:
        self._count = 0
        self._called_at = -math.inf

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Somebody does, for the length of the block."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            self._called_at = time.monotonic()

    @property
    def bulk_quantum(self) -> Quantum:
        """What bulk work may ask for at this moment."""
        called = self._count > 0 or time.monotonic() - self._called_at < _CALLER_S
        return BESIDE_CALLERS if called else ALONE


class Lane:
    """The work of one encoder that is as urgent: the rows of all batches together, a few requests at a time."""

    def __init__(
        self, infer: Infer, quantum: Callable[[], Quantum], *, postponed_s: Callable[[int], float] = lambda tokens: 0.0
    ) -> None:
        """Nobody has asked yet.

        Args:
            infer: Makes one request.
            quantum: How much may be asked for at this moment.
            postponed_s: How much later the turn of a batch of so many tokens is, seconds; by default first come, first
                served.
        """
        self._infer = infer
        self._quantum = quantum
        self._postponed_s = postponed_s
        self._pools: dict[tuple[int, InputType], RowPool] = {}
        self._running: dict[asyncio.Task[None], list[Row]] = {}

    async def encode(
        self, encoder: Encoder, rows: Sequence[NDArray[np.int64]], input_type: InputType, timeout_s: float
    ) -> NDArray[np.float32]:
        """Encode a batch among the others.

        Returns:
            vectors_BD (B, D), in order of the rows.

        Raises:
            DuovecError: What a request that had a row of it raised.
        """
        vectors_BD = np.empty((len(rows), encoder.dimension), dtype=np.float32)
        if not rows:
            return vectors_BD
        loop = asyncio.get_running_loop()
        now = loop.time()
        turn = now + self._postponed_s(sum(len(ids_T) for ids_T in rows))
        batch = Batch(vectors_BD, len(rows), turn, now + timeout_s, loop.create_future(), loop.create_future())
        key = (encoder.version, input_type)
        if key not in self._pools:
            self._pools[key] = RowPool(encoder, input_type)
        self._pools[key].add(rows, batch)
        self._start()
        try:
            with stage(Stage.QUEUE, "wait for a turn"):
                await batch.begun
            with stage(Stage.INFER, f"encode {encoder.name}"):
                await batch.done
        finally:
            self._leave(batch, key)
        return vectors_BD

    def _start(self) -> None:
        """Ask for more where there is room."""
        while self._pools:
            key, pool = min(self._pools.items(), key=lambda item: item[1].turn)
            if len(self._running) >= self._quantum().in_flight_of(pool.encoder.instances):
                break
            taken = pool.take(self._quantum().budgets)
            if not pool:
                del self._pools[key]
            # In no caller's task: another caller's rows must not go when it does. Its trace shows the request.
            task = asyncio.create_task(self._run(pool, taken), context=taken[0].batch.context)
            self._running[task] = taken
            task.add_done_callback(self._ended)
            for row in taken:
                if not row.batch.begun.done():
                    row.batch.begun.set_result(None)

    async def _run(self, pool: RowPool, taken: list[Row]) -> None:
        timeout_s = max(row.batch.deadline for row in taken) - asyncio.get_running_loop().time()
        try:
            vectors_BD = await self._infer(pool.encoder, [row.ids_T for row in taken], pool.input_type, timeout_s)
        except Exception as exc:  # noqa: BLE001 - whatever it is, who waits is told
            for row in taken:
                if not row.batch.done.done():
                    row.batch.done.set_exception(exc)
            return
        for row, vector_D in zip(taken, vectors_BD, strict=True):
            row.batch.vectors_BD[row.index] = vector_D
            row.batch.left -= 1
            if not row.batch.left and not row.batch.done.done():
                row.batch.done.set_result(None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        taken = self._running.pop(task)
        if task.cancelled():
            # Not by us: gRPC does it to the calls of a channel that is closed.
            for row in taken:
                if not row.batch.done.done():
                    row.batch.done.set_exception(TritonUnavailable("the channel to Triton was closed"))
        self._start()

    def _leave(self, batch: Batch, key: tuple[int, InputType]) -> None:
        """A batch is done, or its caller has gone: nothing more is asked for it. What was asked for goes on."""
        batch.begun.cancel()
        if not batch.done.cancel() and not batch.done.cancelled():
            batch.done.exception()  # whoever was cancelled meanwhile has not seen it
        if batch.left and (pool := self._pools.get(key)) is not None:
            pool.discard(batch)
            if not pool:
                del self._pools[key]
