"""Vectors on their way into the database."""

import numpy as np
from numpy.typing import NDArray

from gateway.errors import BadVector
from gateway.store.rows import DIMENSION


def to_halves(embeddings_BD: NDArray[np.float32], count: int) -> NDArray[np.float16]:
    """Round vectors to what is stored.

    Args:
        embeddings_BD: (B, 2560) float32.
        count: B, the chunks that they belong to.

    Raises:
        BadVector: The array has another shape, or a row that is not finite or not of norm 1 ± 0.01.
    """
    if embeddings_BD.shape != (count, DIMENSION):
        raise BadVector(f"vectors of shape {embeddings_BD.shape} for {count} chunks, not ({count}, {DIMENSION})")
    norms_B = np.linalg.norm(embeddings_BD, axis=1)
    # Written so that NaN fails too.
    bad = np.flatnonzero(~(np.abs(norms_B - 1) <= 0.01))
    if bad.size:
        raise BadVector(f"vector {bad[0]} of {count} has norm {norms_B[bad[0]]}, not 1")
    return embeddings_BD.astype(np.float16)
