"""What is asked beside the candidates and embeds by itself."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray


class Opponent(Protocol):
    """The space that is searched now, or checkpoints in its place; it completes a candidate to a pair."""

    @property
    def name(self) -> str:
        """Fingerprint of the space, or what the checkpoints are called; known once it has embedded."""

    def embed(
        self, texts: Sequence[str], input_type: Literal["query", "passage"], on_step: Callable[[str], None]
    ) -> Mapping[str, NDArray[np.float32]]:
        """Vectors of norm 1 by role, in the order of the texts."""
