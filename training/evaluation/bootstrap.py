"""Paired bootstrap: is one system better than another on the same queries, or was it luck?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean difference and its 95 % percentile interval."""

    mean: float
    low: float
    high: float


def paired_interval(ours_Q: NDArray[np.float64], theirs_Q: NDArray[np.float64], seed: int = 0) -> Interval:
    """Interval of mean(ours − theirs) over resampled queries (Efron and Tibshirani 1993, chapter 13)."""
    difference_Q = ours_Q - theirs_Q
    rng = np.random.default_rng(seed)
    count = len(difference_Q)
    means = np.array([difference_Q[rng.integers(0, count, count)].mean() for _ in range(SAMPLES)])
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(difference_Q.mean()), float(low), float(high))
