"""What the service says of the time that a call took it."""

from collections.abc import Iterable

ASK = ("duovec-timing", "1")
"""Metadata of a call whose reply is to say it."""


def stage_times_ms(trailing_metadata: Iterable[tuple[str, str | bytes]] | None) -> dict[str, float]:
    """Read the times of the stages, in milliseconds.

    Args:
        trailing_metadata: Of a call that asked for them.

    Returns:
        `tokenize`, `queue`, `infer`, `database` and `total`, in this order; empty where the service does not say.
    """
    for name, value in trailing_metadata or ():
        if name == "server-timing":
            stages = (entry.strip().partition(";dur=") for entry in str(value).split(","))
            return {stage: float(duration) for stage, _, duration in stages}
    return {}
