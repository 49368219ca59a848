"""Whether the losses of a run say that it is beyond help: one far above its start, or an encoder that has collapsed."""

import math
from collections import deque
from collections.abc import Collection

_START = 20  # losses whose mean is the start of a run
_QUERIES = 32  # of so many the mean loss says something; that of a batch of 2 is a matter of luck
_STAY = 20  # losses in a row that are at chance when an encoder has collapsed
_KNEW = 0.5  # a mean below this share of chance is that of an encoder that tells texts apart
_AT_CHANCE = 0.95  # a loss above this share of chance is at it: bf16 and what is left of a direction move it a little


class LossWatch:
    """Sees the losses of a run in their order, and judges the next one.

    Args:
        divergence: No loss may be above this many times the mean of the first steps.
        chance: The loss of an encoder that gives every text one vector: up to it no single loss has diverged, however
            low the first were. A run that stays there after it was well below has collapsed; one that begins there,
            as an untrained encoder does, has not.
        batch: Queries a step.
    """

    def __init__(self, divergence: float, chance: float, batch: int) -> None:
        self._divergence = divergence
        self._chance = chance
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=math.ceil(_QUERIES / batch))
        self._lowest = math.inf  # mean over _QUERIES
        self._at_chance = 0

    def see(self, loss: float) -> None:
        """Take in the loss of the next step."""
        if len(self._first) < _START:
            self._first.append(loss)
        self._last.append(loss)
        if len(self._last) == self._last.maxlen:
            self._lowest = min(self._lowest, _mean(self._last))
        self._at_chance = self._at_chance + 1 if loss >= _AT_CHANCE * self._chance else 0

    def divergence_of(self, loss: float) -> str | None:
        """Why a loss that was not seen yet is too high; None for one that is not."""
        if not math.isfinite(self._lowest):
            return None
        limit = max(self._divergence * self._start(), self._chance)
        if loss <= limit:
            return None
        return (
            f"the loss {loss:.4g} is above {limit:.4g}, the larger of {self._divergence:g} times its start and chance"
        )

    def _start(self) -> float:
        """Of the first losses, those before they rose count: a limit that rises with them is none."""
        return min(_mean(self._first), _mean(self._first[: self._last.maxlen]))

    def collapse(self) -> str | None:
        """Why the encoder has collapsed; None for one that has not."""
        if self._at_chance < _STAY or self._lowest >= _KNEW * self._chance:
            return None
        return (
            f"the encoder has collapsed: for {self._at_chance} steps the loss is that of one which gives every text "
            f"one vector, {self._chance:.4g}, after {self._lowest:.4g}"
        )


def _mean(losses: Collection[float]) -> float:
    return sum(losses) / len(losses)
