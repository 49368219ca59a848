"""How fast the encoders work at the moment."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

_HALF_LIFE_S = 10.0
"""Of work, not of the clock: what was seen before a quiet hour is still the best guess after it."""


class TokenMeter:
    """Tokens that the encoders finish in a second of work, lately; those of both are added up.

    Time in which nothing is asked of them does not count, time in which they fail or hang does.
    """

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._running = 0
        self._busy_s = 0.0
        self._tokens = 0.0
        self._seen_at = 0.0

    @property
    def tokens_per_s(self) -> float | None:
        """None before the first tokens."""
        return self._tokens / self._busy_s if self._tokens and self._busy_s else None

    @contextmanager
    def working(self, token_count: int) -> Iterator[None]:
        """Run an encoder in the block; the tokens count unless it raises."""
        self._pass_time()
        self._running += 1
        try:
            yield
        except BaseException:
            token_count = 0
            raise
        finally:
            self._pass_time()
            self._running -= 1
            self._tokens += token_count

    def _pass_time(self) -> None:
        now = time.monotonic()
        if self._running:
            passed_s = now - self._seen_at
            kept = 0.5 ** (passed_s / _HALF_LIFE_S)
            self._busy_s = kept * self._busy_s + passed_s
            self._tokens *= kept
        self._seen_at = now
