"""What is asked, and of which passages: one passage a definition, with its name and without."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.dataset import Row
from training.errors import TrainingError
from training.evaluation.metrics import Ints

NAMED, BLANKED = "named", "blanked"
CONDITIONS = (NAMED, BLANKED)
WHOLE = "all"
# Its queries are the words of the name: they are asked only where the name is blanked.
_NAME_STYLE = "symbol"
_LEAST = 2


@dataclass(frozen=True)
class Questions:
    """The queries of one condition and the passages that they are asked of.

    Attributes:
        rows: The rows whose queries are asked.
        passages: One text a definition.
        right_Q: Number of each query's passage.
    """

    rows: tuple[Row, ...]
    passages: tuple[str, ...]
    right_Q: Ints

    def slices(self) -> dict[str, NDArray[np.bool_]]:
        """Which queries belong to `all`, to each query style and to each language."""
        chosen = {WHOLE: np.ones(len(self.rows), dtype=bool)}
        for kind in ("style", "language"):
            values = np.array([getattr(row, kind) for row in self.rows])
            chosen |= {f"{kind} {value}": values == value for value in sorted(set(values.tolist()))}
        return chosen


def draw_rows(rows: Sequence[Row], limit: int, seed: int) -> list[Row]:
    """At most `limit` rows, as evenly over the styles as their numbers allow."""
    styles: dict[str, list[Row]] = {}
    for row in rows:
        styles.setdefault(row.style, []).append(row)
    draw = random.Random(seed)  # noqa: S311
    chosen: list[Row] = []
    for left, style in enumerate(sorted(styles, key=lambda name: len(styles[name]))):
        quota = (limit - len(chosen)) // (len(styles) - left)
        chosen += draw.sample(styles[style], min(quota, len(styles[style])))
    return chosen


def ask(rows: Sequence[Row], condition: str) -> Questions:
    """The queries and passages of one condition.

    Raises:
        TrainingError: Fewer than two definitions are left: nothing can be ranked.
    """
    asked = [row for row in rows if condition == BLANKED or row.style != _NAME_STYLE]
    numbers: dict[str, int] = {}
    passages: list[str] = []
    for row in asked:
        passage = row.positive if condition == NAMED else row.blanked
        if numbers.setdefault(row.unit or passage, len(passages)) == len(passages):
            passages.append(passage)
    if len(passages) < _LEAST:
        raise TrainingError(f"{len(passages)} passages to search with names {condition}; evaluate on more rows")
    right_Q = np.array([numbers[row.unit or (row.positive if condition == NAMED else row.blanked)] for row in asked])
    return Questions(tuple(asked), tuple(passages), right_Q)
