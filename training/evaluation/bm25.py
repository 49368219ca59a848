"""BM25, the baseline that needs no model."""

from collections.abc import Sequence

import bm25s
import numpy as np
from numpy.typing import NDArray

from training.data.blanking import words_of


def bm25_scores(queries: Sequence[str], passages: Sequence[str]) -> NDArray[np.float32]:
    """Scores (Q, P) by bm25s with its defaults, over the words of identifiers."""
    index = bm25s.BM25()
    index.index([words_of(passage) or [""] for passage in passages], show_progress=False)
    known = index.vocab_dict
    return np.stack([_scores(index, [word for word in words_of(query) if word in known]) for query in queries])


def _scores(index: bm25s.BM25, words: list[str]) -> NDArray[np.float32]:
    if not words:
        return np.zeros(index.scores["num_docs"], np.float32)
    scores: NDArray[np.float32] = index.get_scores(words)
    return scores
