"""Writes vectors into the cache behind the replies, those of one owner together.

A transaction for every call cost 1.5 ms of the two cores that the encoders had need of: see DECISIONS.md.
"""

import asyncio
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.telemetry import stages

# How long the first vector of a write waits for others, and how many of them, of 10 kB each, are one write.
_LINGER_S = 0.2
_WRITE_VECTORS = 256
_WRITE_TIMEOUT_S = 5.0
# Of the database's connections. What comes while so many vectors wait is not written: memory stays bounded.
_WRITES_AT_ONCE = 2
_MAX_WAITING_VECTORS = 4096

_VectorsByDigest = Mapping[bytes, NDArray[np.float32]]


class Write(Protocol):
    """Writes one owner's vectors, each (2560,) float32, by the SHA-256 of their texts; see `VectorCache.write`."""

    async def __call__(self, input_type: str, vectors: _VectorsByDigest, *, timeout_s: float) -> None:
        """Write them, or raise."""


@dataclass(slots=True, eq=False)
class _Batch:
    """What becomes one write."""

    vectors: dict[bytes, NDArray[np.float32]] = field(default_factory=dict)
    count: int = 0
    on_end: list[Callable[[], None]] = field(default_factory=list)
    is_due: asyncio.Event = field(default_factory=asyncio.Event)


class WriteBehind:
    """Collects what is to be written, and writes it a moment later."""

    def __init__(self, write: Write, *, on_failure: Callable[[Exception], None]) -> None:
        """Args: on_failure: Is told of every write that failed."""
        self._write = write
        self._on_failure = on_failure
        self._open: dict[tuple[Hashable, str], _Batch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_WRITES_AT_ONCE)
        self._waiting_count = 0

    def add(self, owner: Hashable, input_type: str, vectors: _VectorsByDigest, *, on_end: Callable[[], None]) -> bool:
        """Have vectors written, by a call that acts with the key of the first of their callers.

        Args:
            owner: Of the running call, and of the vectors.
            input_type: Query or passage.
            vectors: By the SHA-256 of their texts.
            on_end: Called when they are written, or have failed to be.

        Returns:
            Whether there is room for them; where not, they are not written.
        """
        if self._waiting_count + len(vectors) > _MAX_WAITING_VECTORS:
            return False
        key = (owner, input_type)
        batch = self._open.get(key)
        if batch is None:
            batch = self._open[key] = _Batch()
            task = asyncio.create_task(self._write_soon(key, batch))
            self._tasks.add(task)
            # Not at the task's own end: one that is cancelled before it begins has none.
            task.add_done_callback(lambda done: self._ended(done, key, batch))
        batch.vectors.update(vectors)
        batch.count += len(vectors)
        batch.on_end.append(on_end)
        self._waiting_count += len(vectors)
        if batch.count >= _WRITE_VECTORS:
            batch.is_due.set()
            del self._open[key]
        return True

    async def close(self) -> None:
        """Write at once what waits, and wait for that."""
        for batch in self._open.values():
            batch.is_due.set()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _write_soon(self, key: tuple[Hashable, str], batch: _Batch) -> None:
        stages.record(None)  # on nobody's account
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_S):
                    await batch.is_due.wait()
            async with self._slots:
                self._close_batch(key, batch)
                await self._write(key[1], batch.vectors, timeout_s=_WRITE_TIMEOUT_S)
        except Exception as exc:  # noqa: BLE001 - the callers have the vectors already
            self._on_failure(exc)

    def _ended(self, task: asyncio.Task[None], key: tuple[Hashable, str], batch: _Batch) -> None:
        self._tasks.discard(task)
        self._close_batch(key, batch)
        self._waiting_count -= batch.count
        for end in batch.on_end:
            end()

    def _close_batch(self, key: tuple[Hashable, str], batch: _Batch) -> None:
        if self._open.get(key) is batch:
            del self._open[key]
