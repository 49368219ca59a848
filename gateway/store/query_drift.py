"""How far the queries of one time are from those of another, whatever their numbers.

The squared maximum mean discrepancy with the dot product as its kernel, by the unbiased estimator (Gretton et al., JMLR
13, 2012, equation 3): for vectors x of one time and y of the other

    mean over i ≠ j of x_i·x_j  +  mean over i ≠ j of y_i·y_j  −  2 · mean over i, j of x_i·y_j,

which is the squared distance between the means of where the queries come from, without what chance adds to it. It is
0 on average when both are drawn alike, may then fall a little below, and is at most 4. The cosine distance of the two
means would grow as queries get fewer, and show a quiet week as a change. The sums of the vectors are all that it needs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.store.rows import DIMENSION


@dataclass(frozen=True, slots=True, eq=False)
class VectorSum:
    """Vectors summed up.

    Attributes:
        count: How many.
        sum_D: (2560,), float64.
        squares: Sum of their squared norms.
    """

    count: int
    sum_D: NDArray[np.float64]
    squares: float

    @classmethod
    def nothing(cls) -> "VectorSum":
        """The sum of no vectors."""
        return cls(0, np.zeros(DIMENSION), 0.0)

    def __add__(self, other: "VectorSum") -> "VectorSum":
        return VectorSum(self.count + other.count, self.sum_D + other.sum_D, self.squares + other.squares)


def drift(now: VectorSum, before: VectorSum) -> float | None:
    """Compare the queries of two times; None where either has fewer than two."""
    if min(now.count, before.count) < 2:
        return None
    across = float(now.sum_D @ before.sum_D) / (now.count * before.count)
    return _within(now) + _within(before) - 2 * across


def _within(vectors: VectorSum) -> float:
    """Mean dot product of two different vectors."""
    return (float(vectors.sum_D @ vectors.sum_D) - vectors.squares) / (vectors.count * (vectors.count - 1))
