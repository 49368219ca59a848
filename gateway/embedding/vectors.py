"""Vectors of several texts at once."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.errors import BadVector


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors of B texts, in the order of the texts, of both encoders or of one."""

    vectors_BV: NDArray[np.float32]
    """(B, 2560), or of one encoder (B, 1536) or (B, 1024), each row of L2 norm 1 ± 1e-5; undefined where `errors` has
    the index."""
    errors: dict[int, BadVector]
    """The texts for which an encoder answered no usable vector."""
    cached: frozenset[int] = frozenset()
    """The texts whose vector an earlier call of the same caller had computed."""

    def spread(self, of_B: Sequence[int]) -> "Vectors":
        """Those of B texts, of which each is the one at this index here; none of them from a cache."""
        errors = {index: self.errors[one] for index, one in enumerate(of_B) if one in self.errors}
        return Vectors(self.vectors_BV[of_B], errors)


def distinct(keys: Sequence[Hashable]) -> tuple[list[int], list[int]]:
    """Where each of some keys comes first; and of every key, which of these it is."""
    numbers: dict[Hashable, int] = {}
    first: list[int] = []
    for index, key in enumerate(keys):
        if key not in numbers:
            numbers[key] = len(first)
            first.append(index)
    return first, [numbers[key] for key in keys]
