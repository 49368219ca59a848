"""One forward pass for one text: what the same caller had embedded before is read, what is being embedded is shared.

Shapes: V = 2560 numbers of a vector, B texts of a call, M of them that nobody has asked for at this moment.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.embedding.space import VECTOR_DIM
from gateway.embedding.vectors import Vectors
from gateway.embedding.write_behind import TextKey, WriteBehind
from gateway.errors import BadVector, Unauthenticated

logger = logging.getLogger(__name__)

# A look-up takes about a millisecond, a forward pass a few: whoever waits longer for the cache is better off without.
_READ_TIMEOUT_S = 0.25
# After a failure the cache is left alone for a while, so that a slow database is not waited for by every call.
_PAUSE_S = 1.0
# Of a vector that was stored in float32; what differs by more was not stored by us.
_NORM_TOLERANCE = 1e-4

_Outcome = NDArray[np.float32] | BadVector
Compute = Callable[[Sequence[int]], Awaitable[Vectors]]


class VectorCache(Protocol):
    """Where vectors of one space are kept, those of each owner apart.

    Attributes:
        evicted_count: Vectors that were deleted to make room.
    """

    evicted_count: int

    def owner(self) -> Hashable | None:
        """Whose call is running: what one owner has, another never gets. None for nobody's, which is not cached."""

    async def read(
        self, input_type: str, digests: Sequence[bytes], *, timeout_s: float
    ) -> Mapping[bytes, NDArray[np.float32]]:
        """Find the owner's vectors, each (2560,) float32, by the SHA-256 of their texts; what is missing is left out.

        Raises:
            Exception: It cannot be read, for whatever reason.
        """

    async def write(self, input_type: str, vectors: Mapping[bytes, NDArray[np.float32]], *, timeout_s: float) -> None:
        """Keep the owner's vectors, each (2560,) float32, by the SHA-256 of their texts.

        Raises:
            Exception: They cannot be written, for whatever reason.
        """


@dataclass(slots=True)
class CacheCounters:
    """What became of texts since the gateway started; each counts in one of the first three.

    Attributes:
        hit_count: Read from the cache, or on the way there.
        miss_count: Run through the encoders.
        shared_count: Got what another text of the same call, or another call of the same owner, was waiting for.
        read_failure_count: Look-ups that failed, took too long, found a vector that is none, or were left out since one
            had just failed; what they did not give are misses.
        write_failure_count: Writes that failed, and calls whose vectors were given up: too many wait, or the cache has
            just failed.
    """

    hit_count: int = 0
    miss_count: int = 0
    shared_count: int = 0
    read_failure_count: int = 0
    write_failure_count: int = 0


@dataclass(slots=True, eq=False)
class _Flight:
    """A look-up, and a forward pass for what it did not find, on behalf of everyone who waits for one of its texts."""

    keys: frozenset[TextKey]
    task: "asyncio.Task[dict[TextKey, _Outcome]]" = field(init=False)
    hits: set[TextKey] = field(default_factory=set)
    waiter_count: int = 0

    def has_failed(self, key: TextKey) -> bool:
        """Whether it has ended without a vector of this text, a moment before it is forgotten."""
        task = self.task
        return task.done() and (
            task.cancelled() or task.exception() is not None or isinstance(task.result()[key], BadVector)
        )


class CachedEncoding:
    """Answers texts from the cache, from a pass that is under way, or by a pass of its own.

    A flight is nobody's property: a caller that goes away ends it only when no other waits for it. Its error is raised
    to all who wait, and kept for nobody who comes later.
    """

    def __init__(self, cache: VectorCache) -> None:
        """Use `cache`, of one space."""
        self.counters = CacheCounters()
        self._cache = cache
        self._in_flight: dict[TextKey, _Flight] = {}
        self._writer = WriteBehind(cache.write, on_failure=self._write_failed)
        self._paused_until = 0.0

    @property
    def evicted_count(self) -> int:
        """Vectors that the cache deleted to make room."""
        return self._cache.evicted_count

    async def get(self, input_type: str, digests: Sequence[bytes], compute: Compute) -> Vectors:
        """Get the vectors of B texts.

        Args:
            input_type: Query or passage, which the same text has two vectors for.
            digests: SHA-256 of each text.
            compute: Runs the encoders over the texts at M positions, all different, and gives their M vectors.

        Raises:
            Exception: What `compute` raised, in this call or in the one whose pass is shared.
        """
        owner = self._cache.owner()
        if owner is None:
            self.counters.miss_count += len(digests)
            return await compute(range(len(digests)))
        keys: list[TextKey] = [(owner, input_type, digest) for digest in digests]
        kept = {key: vector_V for key in keys if (vector_V := self._writer.get(key)) is not None}
        first: dict[TextKey, int] = {}
        for position, key in enumerate(keys):
            flight = self._in_flight.get(key)
            if key not in kept and (flight is None or flight.has_failed(key)):
                first.setdefault(key, position)
        hit_count = sum(key in kept for key in keys)
        self.counters.hit_count += hit_count
        self.counters.shared_count += len(keys) - hit_count - len(first)
        if first:
            self._start(input_type, first, compute)
        flights = {key: self._in_flight[key] for key in keys if key not in kept}
        waited_for = set(flights.values())
        for flight in waited_for:
            flight.waiter_count += 1
        try:
            for flight in waited_for:
                # Shielded: whoever goes away while others wait leaves the flight to them.
                await asyncio.shield(flight.task)
        finally:
            for flight in waited_for:
                flight.waiter_count -= 1
                if flight.waiter_count == 0 and not flight.task.done():
                    self._forget(flight)
                    flight.task.cancel()
        return _collect(keys, flights, kept)

    async def close(self) -> None:
        """Write what waits to be written."""
        await self._writer.close()

    def _start(self, input_type: str, first: dict[TextKey, int], compute: Compute) -> None:
        """Look the texts up in a task of its own, which acts with the key of this caller."""
        flight = _Flight(frozenset(first))
        flight.task = asyncio.create_task(self._fly(flight, input_type, first, compute))
        flight.task.add_done_callback(lambda _: self._land(flight))
        self._in_flight |= dict.fromkeys(first, flight)

    async def _fly(
        self, flight: _Flight, input_type: str, first: dict[TextKey, int], compute: Compute
    ) -> dict[TextKey, _Outcome]:
        by_digest = await self._read(input_type, [digest for _, _, digest in first])
        outcomes: dict[TextKey, _Outcome] = {key: by_digest[key[2]] for key in first if key[2] in by_digest}
        flight.hits.update(outcomes)
        missing = [key for key in first if key not in outcomes]
        self.counters.hit_count += len(outcomes)
        if missing:
            self.counters.miss_count += len(missing)
            fresh = await compute([first[key] for key in missing])
            outcomes |= {key: fresh.errors.get(row, fresh.vectors_BV[row]) for row, key in enumerate(missing)}
        return outcomes

    def _land(self, flight: _Flight) -> None:
        """Have what is new written."""
        self._forget(flight)
        if flight.task.cancelled() or flight.task.exception() is not None:
            return
        fresh = {
            key: outcome
            for key, outcome in flight.task.result().items()
            if key not in flight.hits and not isinstance(outcome, BadVector)
        }
        if not fresh:
            return
        owner, input_type, _ = next(iter(fresh))
        by_digest = {digest: vector_V for (_, _, digest), vector_V in fresh.items()}
        if time.monotonic() < self._paused_until or not self._writer.add(owner, input_type, by_digest):
            self.counters.write_failure_count += 1

    def _forget(self, flight: _Flight) -> None:
        for key in flight.keys:
            if self._in_flight.get(key) is flight:
                del self._in_flight[key]

    async def _read(self, input_type: str, digests: Sequence[bytes]) -> Mapping[bytes, NDArray[np.float32]]:
        if time.monotonic() < self._paused_until:
            self.counters.read_failure_count += 1
            return {}
        try:
            found = await self._cache.read(input_type, digests, timeout_s=_READ_TIMEOUT_S)
        except Exception as exc:  # noqa: BLE001 - whatever ails the cache, the encoders can answer
            self._failed("read", exc)
            self.counters.read_failure_count += 1
            return {}
        sound = {digest: vector_V for digest, vector_V in found.items() if _is_sound(vector_V)}
        if len(sound) < len(found):
            self.counters.read_failure_count += 1
            logger.error("the embedding cache holds %d vectors that are none; not used", len(found) - len(sound))
        return sound

    def _write_failed(self, error: Exception) -> None:
        self._failed("written", error)
        self.counters.write_failure_count += 1

    def _failed(self, done: str, error: Exception) -> None:
        if isinstance(error, Unauthenticated):  # one caller's key was revoked meanwhile, which ails nobody else
            return
        self._paused_until = time.monotonic() + _PAUSE_S
        logger.warning("the embedding cache could not be %s, the encoders run instead: %r", done, error)


def _collect(
    keys: Sequence[TextKey], flights: Mapping[TextKey, _Flight], kept: Mapping[TextKey, NDArray[np.float32]]
) -> Vectors:
    vectors_BV = np.empty((len(keys), VECTOR_DIM), dtype=np.float32)
    errors: dict[int, BadVector] = {}
    cached = set()
    for position, key in enumerate(keys):
        outcome = kept[key] if key in kept else flights[key].task.result()[key]
        if isinstance(outcome, BadVector):
            errors[position] = outcome
        else:
            vectors_BV[position] = outcome
        if key in kept or key in flights[key].hits:
            cached.add(position)
    return Vectors(vectors_BV, errors, frozenset(cached))


def _is_sound(vector_V: NDArray[np.float32]) -> bool:
    # A NaN anywhere makes the norm one, which is outside the tolerance as well.
    return vector_V.shape == (VECTOR_DIM,) and bool(abs(float(np.linalg.norm(vector_V)) - 1) <= _NORM_TOLERANCE)
