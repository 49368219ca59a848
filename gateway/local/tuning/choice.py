"""Which settings to try, and which of those that were measured to take."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LEAST_GAIN = 0.03
"""What a change must gain over the settings in use, as a share of the bulk rate: two runs differ as much."""
NEAR = 0.25
"""Where no settings keep the bound, those count that are slower than the fastest answer by this share at most."""
TOKEN_BUDGETS = (256, 512, 1024, 2048)
"""Padded tokens of a micro-batch."""


@dataclass(frozen=True, order=True)
class Settings:
    """How each of the two encoders is run.

    Attributes:
        instances: Processes that each hold the encoder.
        num_threads: Threads of one inference.
        token_budget: Most padded tokens of a micro-batch.
    """

    instances: int
    num_threads: int
    token_budget: int


@dataclass(frozen=True)
class Measured:
    """What was seen of some settings.

    Attributes:
        settings: The settings.
        chunks_per_s: Bulk alone, both encoders at once, chunks a second.
        tokens_per_s: The same in tokens of both encoders.
        idle_ms: Median time of one short text by both encoders with nothing else to do.
        interactive_ms: The 95th percentile of the same while bulk work runs.
        interactive_p50_ms: Its median.
        beside_chunks_per_s: Bulk beside those short texts, chunks a second.
        moved: Largest cosine distance of a vector to that of the same row alone, by the published settings.
        may_move: How far the version's gate lets a vector move among other rows.
        problem: Why the settings cannot be had; empty where they can.
    """

    settings: Settings
    chunks_per_s: float = 0.0
    tokens_per_s: float = 0.0
    idle_ms: float = 0.0
    interactive_ms: float = 0.0
    interactive_p50_ms: float = 0.0
    beside_chunks_per_s: float = 0.0
    moved: float = 0.0
    may_move: float = 0.0
    problem: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether the settings run, and change no vector by more than its gate allows."""
        return not self.problem and self.moved <= self.may_move


@dataclass(frozen=True)
class Choice:
    """What was chosen, and by which bound.

    Attributes:
        chosen: The row that was chosen.
        bound_ms: Most milliseconds of an interactive text that counted.
        bound_was_met: Whether that is the bound that was asked for.
    """

    chosen: Measured
    bound_ms: float
    bound_was_met: bool


def choose(rows: Sequence[Measured], current: Settings, *, bound_ms: float) -> Choice | None:
    """Take the highest bulk rate among the settings that answer an interactive text in time.

    Where none does, the bound is a quarter above the fastest answer. The settings in use stay unless another gains 3 %.

    Args:
        rows: What was measured, each settings once.
        current: The settings in use.
        bound_ms: Most milliseconds of an interactive text beside bulk work, at the 95th percentile.

    Returns:
        The choice; None when no row is sound.
    """
    sound = [row for row in rows if row.is_sound]
    if not sound:
        return None
    in_time = [row for row in sound if row.interactive_ms <= bound_ms]
    was_met = bool(in_time)
    if not was_met:
        bound_ms = (1 + NEAR) * min(row.interactive_ms for row in sound)
        in_time = [row for row in sound if row.interactive_ms <= bound_ms]
    best = max(in_time, key=_rank)
    kept = [row for row in in_time if row.settings == current]
    if kept and best.chunks_per_s < (1 + LEAST_GAIN) * kept[0].chunks_per_s:
        best = kept[0]
    return Choice(best, bound_ms, was_met)


def _rank(row: Measured) -> tuple[float, int, int, int]:
    """More chunks first, then less memory, fewer threads and the smaller batch."""
    settings = row.settings
    return row.chunks_per_s, -settings.instances, -settings.num_threads, -settings.token_budget


def finalists(rows: Sequence[Measured], current: Settings, *, bound_ms: float, count: int) -> list[Settings]:
    """The settings worth measuring again: the best ones, and those in use.

    Args:
        rows: What was measured so far.
        current: The settings in use.
        bound_ms: As of `choose`.
        count: How many at most, those in use included.
    """
    left, found = list(rows), [current]
    while len(found) < count and (choice := choose(left, current, bound_ms=bound_ms)) is not None:
        left.remove(choice.chosen)
        if choice.chosen.settings != current:
            found.append(choice.chosen.settings)
    return found


def layouts(cores: int, *, room: int) -> list[tuple[int, int]]:
    """Ways to lay an encoder out on the cores: (instances, threads), the product at most the number of cores.

    Args:
        cores: Cores that this process may use.
        room: Most instances that the memory holds.
    """
    powers = [1 << power for power in range(cores.bit_length()) if 1 << power <= cores]
    sizes = sorted({*powers, cores})
    return [
        (instances, threads)
        for instances in sizes
        if instances <= min(room, 4)
        for threads in sizes
        # Of several instances only those that use all cores: fewer would leave some idle to no end.
        if instances * threads <= cores and (instances == 1 or 2 * instances * threads > cores)
    ]


def unique(settings: Iterable[Settings]) -> list[Settings]:
    """Each once, in order."""
    return list(dict.fromkeys(settings))
