"""How long a client waits before it repeats a call."""

import random

_FIRST_S, _MOST_S = 0.2, 10.0
_MOST_DOUBLINGS = 16
"""More than lie between the two; without a bound the 1,025th failure in a row is more seconds than a float holds."""


def backoff_s(attempt: int, asked_s: float | None) -> float:
    """Choose how long to wait before a repetition.

    Args:
        attempt: How many attempts failed, from 1.
        asked_s: The delay that the server asked for, seconds; it is never undercut.

    Returns:
        Seconds, with jitter, so that clients which failed together do not return together.
    """
    if asked_s is not None:
        return asked_s * random.uniform(1.0, 1.25)  # noqa: S311 - no secret
    delay_s = min(_FIRST_S * 2.0 ** min(attempt - 1, _MOST_DOUBLINGS), _MOST_S)
    return delay_s * random.uniform(0.5, 1.0)  # noqa: S311
