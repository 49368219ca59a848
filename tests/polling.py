"""Waiting for what comes after a reply, such as a line of the log or a count, or after the end of a process."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(look: Callable[[], T], holds: Callable[[T], bool], *, timeout_s: float = 60.0, pause_s: float = 0.05) -> T:
    """Look until what is seen holds, and give it; when the time is over, what was seen last.

    The test's own assertions then say what is missing.
    """
    deadline = time.monotonic() + timeout_s
    while not holds(seen := look()) and time.monotonic() < deadline:
        time.sleep(pause_s)
    return seen
