"""Agreement of vectors, and what it means for search.

Shapes: N rows, D dimension, Q queries (query q is answered by code q alone).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]

TOP = 10
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def cosines_of(given_ND: Vectors, expected_ND: Vectors) -> NDArray[np.float64]:
    """Cosine of every row with its counterpart, (N,); NaN where a row is zero or not finite."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        norms_N = np.linalg.norm(given_ND, axis=1) * np.linalg.norm(expected_ND, axis=1)
        cosines_N: NDArray[np.float64] = np.sum(given_ND * expected_ND, axis=1) / norms_N
    return cosines_N


@dataclass(frozen=True)
class Cosines:
    """How the cosines of some rows are spread.

    Attributes:
        least: The smallest; NaN when any is.
        mean: Their mean.
        distances: Quantiles of 1 − cosine, at 0, 10, 25, 50, 75, 90 and 100 percent.
    """

    least: float
    mean: float
    distances: tuple[float, ...]

    @classmethod
    def of(cls, cosines_N: NDArray[np.float64]) -> "Cosines":
        """Summarize."""
        distances = np.quantile(1.0 - cosines_N, QUANTILES)
        return cls(float(cosines_N.min()), float(cosines_N.mean()), tuple(map(float, distances)))


def ranks_of(queries_QD: Vectors, codes_QD: Vectors) -> NDArray[np.int64]:
    """Rank of every query's own code among all codes by dot product, (Q,), from 1.

    A code that scores the same stands before one's own, and so does one whose score is not a number: vectors that are
    all alike, or broken, must not look like perfect ones.
    """
    scores_QQ = queries_QD @ codes_QD.T
    own_Q1 = np.diagonal(scores_QQ)[:, None]
    ranks_Q: NDArray[np.int64] = np.count_nonzero(~(scores_QQ < own_Q1), axis=1)
    return ranks_Q


def mrr(ranks_Q: NDArray[np.int64]) -> float:
    """Mean reciprocal rank, where a rank over 10 counts nothing."""
    return float(np.where(ranks_Q <= TOP, 1.0 / ranks_Q, 0.0).mean())


def ndcg(ranks_Q: NDArray[np.int64]) -> float:
    """nDCG@10 with one relevant code a query, whose ideal gain is 1 (Järvelin & Kekäläinen 2002)."""
    return float(np.where(ranks_Q <= TOP, 1.0 / np.log2(ranks_Q + 1.0), 0.0).mean())


def overlaps_of(
    queries_QD: Vectors, codes_QD: Vectors, other_queries_QD: Vectors, other_codes_QD: Vectors
) -> NDArray[np.float64]:
    """Share of its ten best codes that every query has in common with the other vectors, (Q,)."""
    best_QK, other_QK = _best(queries_QD, codes_QD), _best(other_queries_QD, other_codes_QD)
    return np.array([len(set(one) & set(other)) / TOP for one, other in zip(best_QK, other_QK, strict=True)])


def _best(queries_QD: Vectors, codes_QD: Vectors) -> list[list[int]]:
    return [row[:TOP] for row in np.argsort(-(queries_QD @ codes_QD.T), axis=1, kind="stable").tolist()]


def share_lost(reference: float, given: float) -> float:
    """How much of a metric is lost, as a share of the reference's; negative where it gained."""
    return (reference - given) / reference if reference > 0 else math.nan
