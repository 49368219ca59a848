"""Is the candidate better than what is live? The rule, and the table that shows why."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from training.evaluation.bootstrap import paired_interval
from training.evaluation.questions import BLANKED, CONDITIONS, NAMED, WHOLE
from training.publication.measure import CANDIDATE, LIVE, SYSTEMS, Measurement

NOT_BETTER = "NOT_BETTER"


@dataclass(frozen=True)
class GateLimits:
    """What a candidate must reach, in MRR@10.

    Attributes:
        min_gain: The whole 95 % interval of the gain over all queries must lie above it. Below 0 it admits a candidate
            that is no better, but cheaper.
        slice_tolerance: A query style or a language may lose so much, or as much as half its own interval where that is
            wider: few queries prove no loss.
        least_queries: Slices with fewer are shown and not judged.
        names: Whether `min_gain` is asked with names as they are (`named`) or blanked; slices are judged in both.
    """

    min_gain: float = 0.0
    slice_tolerance: float = 0.02
    least_queries: int = 10
    names: str = NAMED

    def __post_init__(self) -> None:
        if not -1.0 <= self.min_gain <= 1.0:
            raise ValueError(f"min_gain is {self.min_gain}, must be -1 to 1")
        if not 0.0 <= self.slice_tolerance <= 1.0:
            raise ValueError(f"slice_tolerance is {self.slice_tolerance}, must be 0 to 1")
        if self.least_queries < 2:
            raise ValueError(f"least_queries is {self.least_queries}, must be 2 or more")
        if self.names not in CONDITIONS:
            raise ValueError(f"names is {self.names!r}, must be {NAMED} or {BLANKED}")


@dataclass(frozen=True)
class Comparison:
    """Candidate against live on one slice of the queries; `gain` is the difference of MRR@10, `low` to `high` its
    paired 95 % interval, `tolerance` what it may lose; `judged` says whether it decides anything."""

    condition: str
    slice: str
    queries: int
    mrr: Mapping[str, float]
    gain: float
    low: float
    high: float
    tolerance: float
    judged: bool


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate may be published, and why not; `as_dict` is what is recorded."""

    against: str
    limits: GateLimits
    comparisons: tuple[Comparison, ...]
    faults: tuple[str, ...]

    @property
    def better(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.faults

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON."""
        return {"better": self.better, **asdict(self)}


def judge(measured: Measurement, limits: GateLimits) -> Verdict:
    """Apply the limits to what was measured."""
    comparisons = [one for condition in CONDITIONS for one in _compare(measured, condition, limits)]
    faults = []
    for one in comparisons:
        where = f"{one.slice}, names {one.condition}"
        if one.slice == WHOLE and one.condition == limits.names and not one.low > limits.min_gain:
            faults.append(
                f"MRR@10 {one.mrr[CANDIDATE]:.3f}, live {one.mrr[LIVE]:.3f} on {one.queries} queries ({where}): the "
                f"gain {one.gain:+.3f} is {one.low:+.3f} to {one.high:+.3f}, all of it must be above "
                f"{limits.min_gain:+.3f}"
            )
        if one.judged and one.gain < -one.tolerance:
            faults.append(
                f"MRR@10 of {where} changes by {one.gain:+.3f} on {one.queries} queries, at most "
                f"{one.tolerance:.3f} may be lost"
            )
    return Verdict(measured.against, limits, tuple(comparisons), tuple(faults))


def _compare(measured: Measurement, condition: str, limits: GateLimits) -> list[Comparison]:
    reciprocal = {name: one.reciprocal() for name, one in measured.rankings[condition].items()}
    found = []
    for name, chosen_Q in measured.questions[condition].slices().items():
        ours, theirs = reciprocal[CANDIDATE][chosen_Q], reciprocal[LIVE][chosen_Q]
        interval = paired_interval(ours, theirs)
        tolerance = max(limits.slice_tolerance, (interval.high - interval.low) / 2)
        count = int(chosen_Q.sum())
        found.append(
            Comparison(
                condition,
                name,
                count,
                {system: float(reciprocal[system][chosen_Q].mean()) for system in SYSTEMS},
                interval.mean,
                interval.low,
                interval.high,
                tolerance,
                count >= limits.least_queries and (name, condition) != (WHOLE, limits.names),
            )
        )
    return found


def table_of(verdict: Mapping[str, Any]) -> str:
    """The figures of a verdict, as it was recorded, as aligned text: a line a slice, MRR@10 of every system."""
    heads: tuple[str, ...] = ("names", "slice", "queries", *SYSTEMS, "gain", "95 % interval", "may lose")
    lines = [heads]
    lines += [
        (
            one["condition"],
            one["slice"],
            str(one["queries"]),
            *(f"{one['mrr'][system]:.3f}" for system in SYSTEMS),
            f"{one['gain']:+.3f}",
            f"{one['low']:+.3f} to {one['high']:+.3f}",
            f"{one['tolerance']:.3f}" if one["judged"] else "-",
        )
        for one in verdict["comparisons"]
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = (map(str.ljust, line, widths) for line in lines)
    return "\n".join("  ".join(cells).rstrip() for cells in padded)
