"""How long a client waits before it repeats a call."""

import random

_FIRST_S, _MOST_S = 0.2, 10.0


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
    return float(min(_FIRST_S * 2 ** (attempt - 1), _MOST_S)) * random.uniform(0.5, 1.0)  # noqa: S311
