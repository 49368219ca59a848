"""Hard negatives: passages that look like the answer, and are not."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from training.data.blanking import words_of

MOST_ALIKE = 0.6
"""Jaccard similarity of identifier words from which on a passage may be another right answer."""

_POOL = 60
_BLOCK = 512
_MOST_COMMON_SHARE, _MOST_COMMON_COUNT = 0.05, 1000
_IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*")
_SAME_QUERY = 0.5


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage that is the answer to some queries, and may be a negative of others.

    Attributes:
        name: Last part of the unit's symbol.
        language: Negatives are of the same language, where there are enough.
        passage: The text that is embedded.
        queries: What it answers.
    """

    name: str
    language: str
    passage: str
    queries: tuple[str, ...]


def lexical_pools(candidates: Sequence[Candidate]) -> Iterator[list[int]]:
    """For each candidate the others that share most words with it, alike but not too alike.

    Similarity is Jaccard's, over the words of identifiers that at most 5 % of the candidates have. No embedding is
    needed, so none has to be trusted.

    Args:
        candidates: All of one split and language.

    Yields:
        Indices into `candidates`, most alike first.
    """
    words = [
        frozenset(word for name in _IDENTIFIER.findall(one.passage) for word in words_of(name)) for one in candidates
    ]
    common = Counter(word for bag in words for word in bag)
    limit = max(2, min(_MOST_COMMON_SHARE * len(candidates), _MOST_COMMON_COUNT))
    columns = {word: number for number, word in enumerate(sorted(w for w, n in common.items() if 2 <= n <= limit))}
    indices = [sorted(columns[word] for word in bag if word in columns) for bag in words]
    sizes_N = np.array([len(row) for row in indices])
    shape = (len(candidates), max(1, len(columns)))
    starts = np.concatenate([[0], np.cumsum(sizes_N)])
    flat = np.array([column for row in indices for column in row], dtype=np.int32)
    bags_NV = csr_matrix((np.ones(len(flat), dtype=np.int32), flat, starts), shape=shape)
    transposed_VN = bags_NV.T.tocsr()
    for begin in range(0, len(candidates), _BLOCK):
        shared = (bags_NV[begin : begin + _BLOCK] @ transposed_VN).tocsr()
        for row in range(shared.shape[0]):
            found = shared.indices[shared.indptr[row] : shared.indptr[row + 1]]
            both = shared.data[shared.indptr[row] : shared.indptr[row + 1]]
            alike = both / (sizes_N[begin + row] + sizes_N[found] - both)
            alike[alike >= MOST_ALIKE] = 0.0
            # By index where similarities are equal, so that the order is the same on every machine.
            order = np.lexsort((found, -alike))[:_POOL]
            yield [int(found[one]) for one in order if alike[one] > 0.0]


def embedded_pools(
    queries_QD: NDArray[np.float32],
    passages_ND: NDArray[np.float32],
    positives_Q: NDArray[np.int64],
    *,
    margin: float = 0.95,
) -> Iterator[list[int]]:
    """For each query the passages that an encoder ranks high, but clearly below the answer.

    A passage that scores more than `margin` times the positive's own score may be another right answer and is left out:
    the positive-aware rule TopK-PercPos of NV-Retriever (Moreira et al., 2024, arXiv:2407.15831), whose best margin was
    95 %.

    Args:
        queries_QD: Unit vectors of the queries.
        passages_ND: Unit vectors of the passages.
        positives_Q: Index of each query's own passage.
        margin: Share of the positive's score.

    Yields:
        Indices into the passages, best first; none for a query whose positive scores zero or less.
    """
    for begin in range(0, len(queries_QD), _BLOCK):
        scores_BN = queries_QD[begin : begin + _BLOCK] @ passages_ND.T
        for row, positive in enumerate(positives_Q[begin : begin + _BLOCK]):
            limit = margin * scores_BN[row, positive]
            scores_BN[row, (scores_BN[row] >= limit) | (scores_BN[row] <= 0.0)] = -np.inf
            order = np.argsort(-scores_BN[row], kind="stable")[:_POOL]
            yield [int(one) for one in order if np.isfinite(scores_BN[row, one]) and limit > 0.0]


def choose(query: str, own: int, pool: Sequence[int], candidates: Sequence[Candidate], *, count: int) -> list[int]:
    """Take the hardest of a pool that are surely no answers.

    Left out are units of the same name, units that name the answer or are named by it, since a caller may answer, too,
    and those that answer a query of nearly the same words.

    Args:
        query: The query.
        own: Index of its answer.
        pool: Indices, hardest first.
        candidates: What the indices mean.
        count: How many to take at most.
    """
    answer, chosen = candidates[own], list[int]()
    asked = set(query.lower().split())
    names = set(_IDENTIFIER.findall(answer.passage))
    for one in pool:
        other = candidates[one]
        if one == own or other.name in names or answer.name in set(_IDENTIFIER.findall(other.passage)):
            continue
        if any(_overlap(asked, set(text.lower().split())) >= _SAME_QUERY for text in other.queries):
            continue
        chosen.append(one)
        if len(chosen) == count:
            break
    return chosen


def _overlap(one: set[str], other: set[str]) -> float:
    return len(one & other) / max(1, len(one | other))
