"""How bulk work shares an encoder with those who wait for an answer, and its own requests with each other."""

import asyncio
import contextvars
import math
import time
from bisect import bisect_left, insort
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gateway.embedding.space import Encoder, InputType
from gateway.errors import TritonUnavailable
from gateway.telemetry.stages import Stage, stage

Infer = Callable[[Encoder, list[NDArray[np.int64]], InputType, float], Awaitable[NDArray[np.float32]]]
"""One request: of an encoder, for rows of token ids, with a budget in seconds; gives a vector a row, (B, D)."""


@dataclass(frozen=True, slots=True)
class Quantum:
    """What bulk work gives an encoder at a time.

    Attributes:
        budgets: Micro-batches of the backend that a request is made for.
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


@dataclass(eq=False, slots=True)
class _Batch:
    """What one caller waits for."""

    vectors_BD: NDArray[np.float32]
    left: int
    deadline: float
    begun: asyncio.Future[None]
    done: asyncio.Future[None]
    context: contextvars.Context = field(default_factory=contextvars.copy_context)


@dataclass(eq=False, slots=True)
class _Row:
    ids_T: NDArray[np.int64]
    batch: _Batch
    index: int


class _Pool:
    """Rows that wait for one version of an encoder with one task, by length.

    They are taken from the shortest to the longest and then from the shortest again: neighbours in length make
    micro-batches with little padding, and no row waits for more than one turn through all of them.
    """

    def __init__(self, encoder: Encoder, input_type: InputType) -> None:
        self.encoder = encoder
        self.input_type = input_type
        self.rows: list[_Row] = []
        self._next_length = 0

    def add(self, rows: Sequence[NDArray[np.int64]], batch: _Batch) -> None:
        for index, ids_T in enumerate(rows):
            insort(self.rows, _Row(ids_T, batch, index), key=_length)

    def discard(self, batch: _Batch) -> None:
        self.rows = [row for row in self.rows if row.batch is not batch]

    def take(self, budgets: int) -> list[_Row]:
        """Take the rows of so many micro-batches, cut as the backend cuts them: what is over would make a small one."""
        start = bisect_left(self.rows, self._next_length, key=_length) % len(self.rows)
        end, in_group = start, 0
        while end < len(self.rows) and end - start < self.encoder.max_batch_size:
            if in_group and (in_group + 1) * _length(self.rows[end]) > self.encoder.token_budget:
                budgets -= 1
                in_group = 0
                if not budgets:
                    break
            in_group += 1
            end += 1
        taken, self.rows[start:end] = self.rows[start:end], []
        self._next_length = _length(taken[-1])
        return taken


class BulkLane:
    """The bulk work of one encoder: the rows of all batches together, in fewer and smaller requests while somebody else
    asks the encoder."""

    def __init__(self, infer: Infer) -> None:
        """Nobody has asked yet.

        Args:
            infer: Makes one request.
        """
        self._infer = infer
        self._callers = 0
        self._called_at = -math.inf
        # In turns: the first is next.
        self._pools: dict[tuple[int, InputType], _Pool] = {}
        self._running: dict[asyncio.Task[None], list[_Row]] = {}

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
        batch = _Batch(vectors_BD, len(rows), loop.time() + timeout_s, loop.create_future(), loop.create_future())
        self._pools.setdefault((encoder.version, input_type), _Pool(encoder, input_type)).add(rows, batch)
        self._start()
        try:
            with stage(Stage.QUEUE, "wait for a turn"):
                await batch.begun
            with stage(Stage.INFER, f"encode {encoder.name}"):
                await batch.done
        finally:
            self._leave(batch)
        return vectors_BD

    def _start(self) -> None:
        """Ask for more where there is room."""
        while self._pools and len(self._running) < self.quantum.in_flight:
            key = next(iter(self._pools))
            pool = self._pools.pop(key)
            taken = pool.take(self.quantum.budgets)
            if pool.rows:
                self._pools[key] = pool
            # In no caller's task: another caller's rows must not go when it does. Its trace shows the request.
            task = asyncio.create_task(self._run(pool, taken), context=taken[0].batch.context)
            self._running[task] = taken
            task.add_done_callback(self._ended)
            for row in taken:
                if not row.batch.begun.done():
                    row.batch.begun.set_result(None)

    async def _run(self, pool: _Pool, taken: list[_Row]) -> None:
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
            # Not by us, or nobody would wait for it any more: gRPC does it to the calls of a channel that is closed.
            for row in taken:
                if not row.batch.done.done():
                    row.batch.done.set_exception(TritonUnavailable("the channel to Triton was closed"))
        self._start()

    def _leave(self, batch: _Batch) -> None:
        """A batch is done, or its caller has gone: nothing is asked for it any more."""
        batch.begun.cancel()
        if not batch.done.cancel() and not batch.done.cancelled():
            batch.done.exception()  # whoever was cancelled meanwhile has not seen it
        if batch.left:
            for key, pool in list(self._pools.items()):
                pool.discard(batch)
                if not pool.rows:
                    del self._pools[key]
        for task, taken in self._running.items():
            if all(row.batch.done.done() for row in taken):
                task.cancel()


def _length(row: _Row) -> int:
    return len(row.ids_T)
