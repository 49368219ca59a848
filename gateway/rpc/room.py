"""Room for what is in work at once, of whatever can be counted: who finds none is told when there will be some."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.errors import Overloaded

_MIN_RETRY_S, _MAX_RETRY_S = 0.05, 30.0
_UNMEASURED_RETRY_S = 1.0
_HALF_LIFE_S = 10.0
"""Of the time in which the room was half full: what was seen in the last rush is the best guess for the next one."""
_LEAST_RUSH_S = 1.0
_SHARE_OF_LARGE = 7 / 8
"""What is left is for small calls: a search must not wait for hundreds of texts."""


class Held:
    """What one call holds of a room.

    Attributes:
        begun_at: Since when, of the monotonic clock.
    """

    def __init__(self, room: "Room") -> None:
        self._room = room
        self.begun_at = time.monotonic()

    def correct(self, count: int) -> None:
        """Hold another count, now that it is known.

        Raises:
            Overloaded: There is no room for it.
        """
        self._room.change(self, count)


class Room:
    """Counts what is in work, and refuses what exceeds the limit.

    Attributes:
        pending: What is in work.
        limit: Its limit. Large calls have seven eighths of it. One that is alone among them goes whatever it has, and
            whatever small ones hold, and counts as seven eighths at most.
        refused_count: Calls refused so far.
    """

    def __init__(
        self, limit: int, unit: str, *, small: int, guess_rate: Callable[[], float | None] = lambda: None
    ) -> None:
        """It is empty.

        Args:
            limit: Most that is in work at once.
            unit: What is counted, for messages, in the plural.
            small: Most of a small call.
            guess_rate: How much goes away in a second as long as the room was never full; None for unknown.
        """
        self.limit = limit
        self.refused_count = 0
        self._unit = unit
        self._small = small
        self._limit_of_large = max(int(limit * _SHARE_OF_LARGE), 1)
        self._guess_rate = guess_rate
        # In the order in which they came.
        self._held: dict[Held, int] = {}
        self.pending = 0
        self._pending_of_large = 0
        self._promises: deque[tuple[float, int]] = deque()
        self._promised = 0
        self._promised_to_large = 0
        # For how long it was half full, and how much went away then: who is alone does not show what many get.
        self._busy_s = 0.0
        self._gone = 0.0
        self._seen_at = 0.0

    @property
    def rate(self) -> float | None:
        """How much goes away in a second of a rush, beside all other work; None while that is unknown."""
        # A single call that fails at once would make it thousands of times the truth.
        return self._gone / self._busy_s if self._gone and self._busy_s >= _LEAST_RUSH_S else self._guess_rate()

    @contextmanager
    def hold(self, count: int) -> Iterator[Held]:
        """Hold room for one call.

        Raises:
            Overloaded: There is none; says when there will be, judging by how fast room became free in the last rush,
                by what the calls in work hold, and by what others were told.
        """
        held = Held(self)
        self.change(held, count)
        try:
            yield held
        finally:
            self._take(held, 0)
            del self._held[held]

    def change(self, held: Held, count: int) -> None:
        """Let one call hold another count than before; errors as of `hold`."""
        before = self._held.get(held, 0)
        others, others_of_large = self.pending - before, self._pending_of_large - self._large(before)
        counted = min(count, self._limit_of_large)
        if count <= self._small:
            if count and others + count > self.limit:
                self._refuse(held, others, count, self.limit)
        # Where it is the only large one it goes beside any number of small ones, which might never end.
        elif others_of_large:
            if others_of_large + counted > self._limit_of_large:
                self._refuse(held, others_of_large, count, self._limit_of_large)
            if others + counted > self.limit:
                self._refuse(held, others, count, self.limit)
        self._take(held, counted)

    def _large(self, count: int) -> int:
        return count if count > self._small else 0

    def _take(self, held: Held, count: int) -> None:
        before = self._held.get(held, 0)
        self._pass_time(gone=before if count == 0 else 0)
        self.pending += count - before
        self._pending_of_large += self._large(count) - self._large(before)
        self._held[held] = count

    def _pass_time(self, gone: int) -> None:
        now = time.monotonic()
        if 2 * self.pending >= self.limit:
            passed_s = now - self._seen_at
            kept = 0.5 ** (passed_s / _HALF_LIFE_S)
            self._busy_s = kept * self._busy_s + passed_s
            self._gone = kept * self._gone + gone
        self._seen_at = now

    def _refuse(self, held: Held, others: int, count: int, limit: int) -> None:
        """Raise the error for a call of `count`, and remember what it was told until then.

        Others who are refused meanwhile are told to come after it: were all sent to the same moment, most would be
        refused again.
        """
        self.refused_count += 1
        now = time.monotonic()
        while self._promises and self._promises[0][0] <= now:
            past = self._promises.popleft()[1]
            self._promised -= past
            self._promised_to_large -= self._large(past)
        rate = self.rate
        delay_s = _UNMEASURED_RETRY_S
        if rate is not None:
            # Small calls have a part of their own, which those who were promised the other one do not take.
            promised = self._promised if self._large(count) else self._promised - self._promised_to_large
            excess = others + promised + min(count, limit) - limit
            delay_s = self._freed(held, excess, now, rate, of_large=limit != self.limit) / rate
        delay_s = min(max(delay_s, _MIN_RETRY_S), _MAX_RETRY_S)
        # In order of their times: each is told a later one, but for those at the bounds.
        due = max(now + delay_s, self._promises[-1][0] if self._promises else 0.0)
        self._promises.append((due, min(count, limit)))
        self._promised += min(count, limit)
        self._promised_to_large += self._large(min(count, limit))
        raise Overloaded(
            f"{others:,} {self._unit} are in work and {count:,} more exceed the limit of "
            f"{limit:,}; retry in {delay_s:.2f} s",
            retry_after_s=delay_s,
        )

    def _freed(self, held: Held, excess: int, now: float, rate: float, *, of_large: bool) -> float:
        """How much must still be worked off until `excess` is free: calls free what they hold when they end.

        They are taken to end in the order in which they came, as if one was worked at after the other.
        """
        done, worked_off, freed = None, 0.0, 0
        for other, count in self._held.items():
            if other is held or not count:
                continue
            if done is None:
                done = min((now - other.begun_at) * rate, 0.9 * count)
            worked_off += count
            freed += self._large(count) if of_large else count
            if freed >= excess:
                return worked_off - done
        return worked_off + excess - freed - (done or 0.0)
