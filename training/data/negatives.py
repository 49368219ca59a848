"""Hard negatives: passages that look like the answer, and are not."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from training.data.blanking import words_of
from training.data.drafts import Draft

Asked = tuple[int, str]
"""Index of a draft, and a query that it answers."""

PoolSource = Callable[[Sequence[Draft], Sequence[Asked]], Iterator[Sequence[int]]]
"""Gives for each query the drafts that look like its answer, as indices, hardest first."""

MOST_ALIKE = 0.6
"""Jaccard similarity of identifier words from which on a passage may be another right answer."""

MARGIN = 0.95
"""Share of the answer's score from which on a passage may be another right answer."""

_POOL = 60
_BLOCK = 512
_MOST_COMMON_SHARE, _MOST_COMMON_COUNT = 0.05, 1000
_IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*")
_SAME_QUERY = 0.5


def lexical_pools(drafts: Sequence[Draft], asked: Sequence[Asked]) -> Iterator[Sequence[int]]:
    """The drafts that share most words with the answer, alike but not too alike.

    Similarity is Jaccard's, over the words of identifiers that at most 5 % of the drafts have. No embedding is needed,
    so none has to be trusted.
    """
    words = [
        frozenset(word for name in _IDENTIFIER.findall(draft.passage) for word in words_of(name)) for draft in drafts
    ]
    common = Counter(word for bag in words for word in bag)
    limit = max(2, min(_MOST_COMMON_SHARE * len(drafts), _MOST_COMMON_COUNT))
    columns = {word: number for number, word in enumerate(sorted(w for w, n in common.items() if 2 <= n <= limit))}
    indices = [sorted(columns[word] for word in bag if word in columns) for bag in words]
    sizes_N = np.array([len(row) for row in indices])
    starts = np.concatenate([[0], np.cumsum(sizes_N)])
    flat = np.array([column for row in indices for column in row], dtype=np.int32)
    bags_NV = csr_matrix((np.ones(len(flat), np.int32), flat, starts), shape=(len(drafts), max(1, len(columns))))
    transposed_VN = bags_NV.T.tocsr()
    pools: list[list[int]] = []
    for begin in range(0, len(drafts), _BLOCK):
        shared = (bags_NV[begin : begin + _BLOCK] @ transposed_VN).tocsr()
        for row in range(shared.shape[0]):
            found = shared.indices[shared.indptr[row] : shared.indptr[row + 1]]
            both = shared.data[shared.indptr[row] : shared.indptr[row + 1]]
            alike = both / (sizes_N[begin + row] + sizes_N[found] - both)
            alike[alike >= MOST_ALIKE] = 0.0
            # By index where similarities are equal, so that the order is the same on every machine.
            order = np.lexsort((found, -alike))[:_POOL]
            pools.append([int(found[one]) for one in order if alike[one] > 0.0])
    return (pools[own] for own, _ in asked)


def embedded_pools(
    queries_QD: NDArray[np.float32], passages_ND: NDArray[np.float32], positives_Q: NDArray[np.int64]
) -> Iterator[list[int]]:
    """For each query the passages that an encoder ranks high, but clearly below the answer.

    A passage that scores 95 % of the answer's own score or more may be another right answer and is left out: the
    positive-aware rule TopK-PercPos of NV-Retriever (Moreira et al., 2024, arXiv:2407.15831), with the margin that was
    best there.

    Args:
        queries_QD: Unit vectors of the queries.
        passages_ND: Unit vectors of the passages.
        positives_Q: Index of each query's own passage.

    Yields:
        Indices into the passages, best first; none for a query whose answer scores zero or less.
    """
    for begin in range(0, len(queries_QD), _BLOCK):
        scores_BN = queries_QD[begin : begin + _BLOCK] @ passages_ND.T
        for row, positive in enumerate(positives_Q[begin : begin + _BLOCK]):
            scores_N = scores_BN[row]
            limit = MARGIN * scores_N[positive]
            scores_N[(scores_N >= limit) | (scores_N <= 0.0)] = -np.inf
            order = np.argsort(-scores_N, kind="stable")[:_POOL]
            yield [int(one) for one in order if np.isfinite(scores_N[one])]


def choose(own: int, query: str, pool: Sequence[int], drafts: Sequence[Draft], *, count: int) -> list[int]:
    """Take the hardest of a pool that are surely no answers.

    Left out are units of the same name, units that name the answer or are named by it, since a caller may answer, too,
    and those that answer a query of nearly the same words.

    Args:
        own: Index of the answer.
        query: What is asked.
        pool: Indices, hardest first.
        drafts: What the indices mean.
        count: How many to take at most.
    """
    answer = drafts[own]
    names = set(_IDENTIFIER.findall(answer.passage))
    asked = set(query.lower().split())
    chosen: list[int] = []
    for one in pool:
        if len(chosen) >= count:
            break
        other = drafts[one]
        if one == own or other.unit.name in names or answer.unit.name in set(_IDENTIFIER.findall(other.passage)):
            continue
        if all(_overlap(asked, set(known.text.lower().split())) < _SAME_QUERY for known in other.queries):
            chosen.append(one)
    return chosen


def _overlap(one: set[str], other: set[str]) -> float:
    return len(one & other) / max(1, len(one | other))
