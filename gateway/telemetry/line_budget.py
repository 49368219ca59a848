"""A bound on the lines of the log that anybody can cause, without a key, as often as he likes."""

import time


class LineBudget:
    """So many lines within a second; the next one after that says how many were left out."""

    def __init__(self, lines_a_second: int) -> None:
        """Args: lines_a_second: 1 or more."""
        self._lines_a_second = lines_a_second
        self._second_began_at = time.monotonic()
        self._line_count = 0
        self._left_out_count = 0

    def take(self) -> str | None:
        """What to end a line with that is about to be written; None where it is to be left out."""
        now = time.monotonic()
        if now - self._second_began_at >= 1:
            self._second_began_at, self._line_count = now, 0
        if self._line_count == self._lines_a_second:
            self._left_out_count += 1
            return None
        self._line_count += 1
        count, self._left_out_count = self._left_out_count, 0
        return f" (and {count} such lines were left out before)" if count else ""
