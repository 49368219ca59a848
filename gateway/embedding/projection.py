"""Vectors on a plane: their first two principal components, and which of them are neighbours in all dimensions.

Shapes: B vectors of V = 2560 numbers, K neighbours of each, R directions that are looked for.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEIGHBORS = 8
"""K at most."""
# More directions than the two that are wanted, and some passes, so that these two are right where others are near them:
# Halko, Martinsson and Tropp, "Finding structure with randomness", 2011, algorithm 4.4.
_DIRECTIONS = 12
_PASSES = 8
_ROWS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Where vectors lie.

    Attributes:
        places_B2: (B, 2) float32, mean 0; the component with the larger variance first.
        explained_variance: Share of the vectors' variance that both components have, 0 to 1.
        neighbors_BK: (B, K) positions of the most similar other vectors, most similar first; K is 8, or B − 1.
        similarities_BK: (B, K) float32, cosine similarity to each of these.
    """

    places_B2: NDArray[np.float32]
    explained_variance: float
    neighbors_BK: NDArray[np.int64]
    similarities_BK: NDArray[np.float32]


def project(vectors_BV: NDArray[np.float16]) -> Projection:
    """Lay vectors out on a plane. Takes about half a second for 2,000, so call it in a thread.

    Args:
        vectors_BV: (B, V), each of norm 1.
    """
    unit_BV = vectors_BV.astype(np.float32)
    neighbors_BK, similarities_BK = _neighbors(unit_BV)
    # In place: of this array there are tens of megabytes.
    unit_BV -= unit_BV.mean(axis=0) if len(unit_BV) else 0
    places_B2, explained_variance = _principal_components(unit_BV)
    return Projection(places_B2, explained_variance, neighbors_BK, similarities_BK)


def _neighbors(unit_BV: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    count = max(0, min(NEIGHBORS, len(unit_BV) - 1))
    neighbors_BK = np.empty((len(unit_BV), count), dtype=np.int64)
    similarities_BK = np.empty((len(unit_BV), count), dtype=np.float32)
    for start in range(0, len(unit_BV) if count else 0, _ROWS_AT_ONCE):
        rows = slice(start, min(start + _ROWS_AT_ONCE, len(unit_BV)))
        similarity_RB = unit_BV[rows] @ unit_BV.T
        itself = np.arange(rows.stop - start)
        similarity_RB[itself, itself + start] = -np.inf
        best_RK = np.argpartition(-similarity_RB, count - 1, axis=1)[:, :count]
        found_RK = np.take_along_axis(similarity_RB, best_RK, axis=1)
        order_RK = np.argsort(-found_RK, axis=1, kind="stable")
        neighbors_BK[rows] = np.take_along_axis(best_RK, order_RK, axis=1)
        similarities_BK[rows] = np.take_along_axis(found_RK, order_RK, axis=1)
    return neighbors_BK, similarities_BK


def _principal_components(centred_BV: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    count, dimension = centred_BV.shape
    places_B2 = np.zeros((count, 2), dtype=np.float32)
    variance = float(np.einsum("bv,bv->", centred_BV, centred_BV, dtype=np.float64))
    # Below this there is nothing but what rounding made of copies of one vector.
    if variance < 1e-6:
        return places_B2, 0.0
    rank = min(_DIRECTIONS, count, dimension)
    # The same picture each time.
    basis_VR = np.random.default_rng(0).standard_normal((dimension, rank)).astype(np.float32)
    for _ in range(_PASSES):
        basis_VR = np.linalg.qr(centred_BV.T @ (centred_BV @ basis_VR))[0]
    left_BR, scale_R, directions_RR = np.linalg.svd(centred_BV @ basis_VR, full_matrices=False)
    kept = min(2, rank)
    # A component and its negative are equally right; the largest number of its direction is made positive.
    directions_V2 = basis_VR @ directions_RR[:kept].T
    signs_2 = np.sign(directions_V2[np.abs(directions_V2).argmax(axis=0), np.arange(kept)])
    places_B2[:, :kept] = left_BR[:, :kept] * scale_R[:kept] * signs_2
    return places_B2, float(np.sum(scale_R[:kept].astype(np.float64) ** 2) / variance)
