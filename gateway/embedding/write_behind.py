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

TextKey = tuple[Hashable, str, bytes]
"""Owner, input type, and SHA-256 of a text."""


class Write(Protocol):
    """Writes one owner's vectors, each (2560,) float32, by the SHA-256 of their texts; see `VectorCache.write`."""

    async def __call__(
        self, input_type: str, vectors: Mapping[bytes, NDArray[np.float32]], *, timeout_s: float
    ) -> None:
        """Write them, or raise."""


@dataclass(slots=True, eq=False)
class _Batch:
    """What becomes one write: vectors of one owner and input type, by the SHA-256 of their texts."""

    owner: Hashable
    input_type: str
    vectors: dict[bytes, NDArray[np.float32]] = field(default_factory=dict)
    is_due: asyncio.Event = field(default_factory=asyncio.Event)


class WriteBehind:
    """Collects what is to be written, writes it a moment later, and has it until then."""

    def __init__(self, write: Write, *, on_failure: Callable[[Exception], None]) -> None:
        """Args: on_failure: Is told of every write that failed."""
        self._write = write
        self._on_failure = on_failure
        self._open: dict[tuple[Hashable, str], _Batch] = {}
        self._waiting: dict[TextKey, NDArray[np.float32]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_WRITES_AT_ONCE)

    def get(self, key: TextKey) -> NDArray[np.float32] | None:
        """The vector (2560,) of a text, where it waits to be written or is being written."""
        return self._waiting.get(key)

    def add(self, owner: Hashable, input_type: str, vectors: Mapping[bytes, NDArray[np.float32]]) -> bool:
        """Have vectors written, by a call that acts with the key of the first of their callers.

        Args:
            owner: Of the running call, and of the vectors.
            input_type: Query or passage.
            vectors: By the SHA-256 of their texts, none of which waits already.

        Returns:
            Whether there is room for them; where not, they are not written.
        """
        if len(self._waiting) + len(vectors) > _MAX_WAITING_VECTORS:
            return False
        batch = self._open.get((owner, input_type))
        if batch is None:
            batch = self._open[owner, input_type] = _Batch(owner, input_type)
            task = asyncio.create_task(self._write_soon(batch))
            self._tasks.add(task)
            # Not at the task's own end: one that is cancelled before it begins has none.
            task.add_done_callback(lambda done: self._ended(done, batch))
        batch.vectors.update(vectors)
        self._waiting |= {(owner, input_type, digest): vector_V for digest, vector_V in vectors.items()}
        if len(batch.vectors) >= _WRITE_VECTORS:
            self._shut(batch)
        return True

    async def close(self) -> None:
        """Write at once what waits, also what comes meanwhile, and wait for that."""
        while self._tasks:
            for batch in self._open.values():
                batch.is_due.set()
            await asyncio.wait(self._tasks)

    async def _write_soon(self, batch: _Batch) -> None:
        stages.record(None)  # on nobody's account
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_S):
                    await batch.is_due.wait()
            async with self._slots:
                self._shut(batch)
                await self._write(batch.input_type, batch.vectors, timeout_s=_WRITE_TIMEOUT_S)
        except Exception as exc:  # noqa: BLE001 - the callers have the vectors already
            self._on_failure(exc)

    def _shut(self, batch: _Batch) -> None:
        """Let nothing more into a batch, and have it written."""
        batch.is_due.set()
        key = (batch.owner, batch.input_type)
        if self._open.get(key) is batch:
            del self._open[key]

    def _ended(self, task: asyncio.Task[None], batch: _Batch) -> None:
        self._tasks.discard(task)
        self._shut(batch)
        for digest in batch.vectors:
            self._waiting.pop((batch.owner, batch.input_type, digest), None)
