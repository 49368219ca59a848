"""Retrieval metrics of queries that have one right passage each.

Shapes: Q queries, P passages, D dimension.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
RECALL_AT = (1, 5, 10, 50)
_UNIFORMITY_T = 2.0
_CHUNK = 512  # queries scored at a time, so that 100,000 passages fit into memory


@dataclass(frozen=True)
class Ranking:
    """Where every query's right passage came, and which of the wrong ones was best.

    Attributes:
        rank_Q: From 1; ties count half, as if they were broken at random.
        best_wrong_Q: The best-scored wrong passage, by number.
    """

    rank_Q: Floats
    best_wrong_Q: Ints

    def reciprocal(self, at: int = 10) -> Floats:
        """1 / rank, 0 beyond `at`; its mean is MRR@at."""
        return np.where(self.rank_Q <= at, 1.0 / self.rank_Q, 0.0)

    def gain(self, at: int = 10) -> Floats:
        """1 / log2(1 + rank), 0 beyond `at`: nDCG@at for one right passage (Järvelin and Kekäläinen 2002)."""
        return np.where(self.rank_Q <= at, 1.0 / np.log2(1.0 + self.rank_Q), 0.0)

    def found(self, at: int) -> Floats:
        """1 where the right passage is among the first `at`; its mean is recall@at."""
        return (self.rank_Q <= at).astype(np.float64)

    def summary(self, chosen_Q: NDArray[np.bool_] | None = None) -> dict[str, float]:
        """Means over all queries or the chosen ones."""
        rows = slice(None) if chosen_Q is None else chosen_Q
        values: Mapping[str, Floats] = {
            "mrr@10": self.reciprocal(),
            "ndcg@10": self.gain(),
            **{f"recall@{at}": self.found(at) for at in RECALL_AT},
        }
        return {name: float(value[rows].mean()) for name, value in values.items()}


def rank_scores(scores_QP: NDArray[np.floating[Any]], right_Q: Ints) -> Ranking:
    """Rank the right passage of each query by its score among all, from a whole matrix of scores."""
    rows = np.arange(len(right_Q))
    scores_QP = scores_QP.astype(np.float64)
    right = scores_QP[rows, right_Q]
    above = (scores_QP > right[:, None]).sum(axis=1)
    equal = (scores_QP == right[:, None]).sum(axis=1) - 1
    others_QP = scores_QP.copy()
    others_QP[rows, right_Q] = -np.inf
    return Ranking(1.0 + above + equal / 2.0, others_QP.argmax(axis=1).astype(np.int64))


def rank_vectors(queries_QD: NDArray[np.float32], passages_PD: NDArray[np.float32], right_Q: Ints) -> Ranking:
    """Rank by cosine; rows have norm 1."""
    parts = [
        rank_scores(queries_QD[start : start + _CHUNK] @ passages_PD.T, right_Q[start : start + _CHUNK])
        for start in range(0, len(right_Q), _CHUNK)
    ]
    return Ranking(
        np.concatenate([part.rank_Q for part in parts]),
        np.concatenate([part.best_wrong_Q for part in parts]),
    )


def alignment(queries_QD: NDArray[np.float32], right_QD: NDArray[np.float32]) -> float:
    """Mean squared distance of a query to its passage (Wang and Isola 2020); smaller is better."""
    return float(((queries_QD.astype(np.float64) - right_QD) ** 2).sum(axis=1).mean())


def uniformity(vectors_PD: NDArray[np.float32], limit: int = 2000) -> float:
    """Log of the mean Gaussian potential of all pairs (Wang and Isola 2020), of the first `limit` rows."""
    part_PD = vectors_PD[:limit].astype(np.float64)
    squared_PP = 2.0 - 2.0 * (part_PD @ part_PD.T)
    upper = squared_PP[np.triu_indices(len(part_PD), k=1)]
    return float(np.log(np.exp(-_UNIFORMITY_T * upper).mean()))


def triplet_accuracy(
    queries_TD: NDArray[np.float32], right_TD: NDArray[np.float32], wrong_TD: NDArray[np.float32]
) -> float:
    """Share of the T triplets whose query has a higher cosine with its passage than with its hard negative."""
    return float(((queries_TD * right_TD).sum(axis=1) > (queries_TD * wrong_TD).sum(axis=1)).mean())
