"""Another weight of the two encoders, for a query alone: what is stored stays as it is.

A stored vector is v = [√w·c ; √(1−w)·t] with w = CODE_WEIGHT and unit parts c (code) and t (text), so that the dot
product of two such vectors is w·cos_c + (1−w)·cos_t. For another weight b the query's halves are scaled instead:

    q = [b/w · √w·c_q ; (1−b)/(1−w) · √(1−w)·t_q]    gives    q·v = b·cos_c + (1−b)·cos_t.

q has no unit norm, and the database compares by cosine: q·v = |q| · cos(q, v), since |v| = 1.
"""

import numpy as np
from numpy.typing import NDArray

from gateway.embedding.space import CODE_DIM

CODE_WEIGHT = 0.5
"""w: the code encoder's share of the similarity in every stored vector."""


def reweighted(vector_V: NDArray[np.float32], code_weight: float) -> tuple[NDArray[np.float32], float]:
    """Give a query another weight of code against text.

    Args:
        vector_V: (2560,) a vector of the space, norm 1.
        code_weight: b, 0 to 1.

    Returns:
        unit_V (2560,) float32 of norm 1, and the factor |q|: its cosine with a stored vector, times that, is
        b·cos_c + (1−b)·cos_t.
    """
    scaled_V = vector_V.astype(np.float64)
    scaled_V[:CODE_DIM] *= code_weight / CODE_WEIGHT
    scaled_V[CODE_DIM:] *= (1 - code_weight) / (1 - CODE_WEIGHT)
    norm = float(np.linalg.norm(scaled_V))
    return (scaled_V / norm).astype(np.float32), norm
