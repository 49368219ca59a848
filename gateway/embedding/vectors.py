"""Vectors of several texts at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.errors import BadVector


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors of B texts, in the order of the texts."""

    vectors_BV: NDArray[np.float32]
    """(B, 2560), each row of L2 norm 1 ± 1e-5; undefined where `errors` has the index."""
    errors: dict[int, BadVector]
    """The texts for which an encoder answered no usable vector."""
    cached: frozenset[int] = frozenset()
    """The texts whose vector an earlier call of the same caller had computed."""
