"""How much work the server takes at once; what is more is refused at the door, not queued."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import Overloaded

# Weight of the last call in the estimate of the rate; a few dozen calls make it forget a slow start.
_SMOOTHING = 0.1
_MIN_RETRY_S, _MAX_RETRY_S = 0.05, 30.0


class Admission:
    """Counts the texts in work and the open streams, and refuses what exceeds the limits."""

    def __init__(self, *, max_pending_texts: int, max_streams: int) -> None:
        """Nothing is admitted yet.

        Args:
            max_pending_texts: Texts of unary calls in work at once.
            max_streams: Streams open at once.
        """
        self._max_pending_texts = max_pending_texts
        self._max_streams = max_streams
        self._pending_texts = 0
        self._streams = 0
        self._seconds_per_text: float | None = None

    def __repr__(self) -> str:
        return (
            f"<Admission texts={self._pending_texts}/{self._max_pending_texts} "
            f"streams={self._streams}/{self._max_streams}>"
        )

    @contextmanager
    def texts(self, count: int) -> Iterator[None]:
        """Hold room for the texts of one call.

        Raises:
            Overloaded: There is no room; says when there will be, judging by the recent rate.
        """
        if self._pending_texts + count > self._max_pending_texts:
            excess = self._pending_texts + count - self._max_pending_texts
            retry_after_s = min(max(excess * (self._seconds_per_text or 0.01), _MIN_RETRY_S), _MAX_RETRY_S)
            raise Overloaded(
                f"{self._pending_texts} texts are in work and {count} more exceed the limit of "
                f"{self._max_pending_texts}; retry in {retry_after_s:.2f} s",
                retry_after_s=retry_after_s,
            )
        self._pending_texts += count
        pending, started = self._pending_texts, time.monotonic()
        try:
            yield
            # While this call ran, about as many texts were finished as were in work when it came.
            observed = (time.monotonic() - started) / pending
            known = self._seconds_per_text
            self._seconds_per_text = observed if known is None else known + _SMOOTHING * (observed - known)
        finally:
            self._pending_texts -= count

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Hold room for one stream; inside it, HTTP/2 flow control slows the sender down.

        Raises:
            Overloaded: As many streams are open as the server takes.
        """
        if self._streams >= self._max_streams:
            raise Overloaded(
                f"{self._streams} streams are open, the limit is {self._max_streams}; retry in 1 s", retry_after_s=1.0
            )
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1
