"""Finds code that stands in a set more than once, exactly or nearly."""

import hashlib
import re

from datasketch import MinHash, MinHashLSH

_SHINGLE_TOKENS = 5
NEAR = 0.7
"""Jaccard similarity of token shingles from which on two passages are near duplicates."""

_PERMUTATIONS = 64
_TOKEN = re.compile(r"\w+|[^\w\s]")


def shingles(text: str) -> frozenset[str]:
    """Every run of five tokens of a text; of a shorter text its tokens as one."""
    tokens = _TOKEN.findall(text)
    if len(tokens) <= _SHINGLE_TOKENS:
        return frozenset({" ".join(tokens)})
    return frozenset(
        " ".join(tokens[start : start + _SHINGLE_TOKENS]) for start in range(len(tokens) - _SHINGLE_TOKENS + 1)
    )


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard similarity of two sets; 1 where both are empty."""
    union = len(one | other)
    return len(one & other) / union if union else 1.0


class Duplicates:
    """Remembers the passages that it was shown, and tells whether a new one is among them.

    Candidates come from MinHash with locality-sensitive hashing (Broder 1997), and are then compared exactly, so that a
    collision drops nothing. A near duplicate whose signature misses is kept.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._digests: set[bytes] = set()
        self._texts: list[str] = []
        # Below the threshold that counts, so that few near duplicates are missed; comparing weeds out the rest.
        self._index = MinHashLSH(threshold=NEAR - 0.15, num_perm=_PERMUTATIONS)

    def kind_of(self, text: str) -> str | None:
        """Compare a passage with those before it, and remember it if it is new.

        Returns:
            "exact", whatever the space in it, "near", or None for a new one.
        """
        digest = hashlib.sha256(" ".join(_TOKEN.findall(text)).encode()).digest()
        if digest in self._digests:
            return "exact"
        own = shingles(text)
        signature = MinHash(num_perm=_PERMUTATIONS, seed=1)
        signature.update_batch([shingle.encode() for shingle in sorted(own)])
        if any(similarity(own, shingles(self._texts[number])) >= NEAR for number in self._index.query(signature)):
            return "near"
        self._digests.add(digest)
        self._index.insert(len(self._texts), signature)
        self._texts.append(text)
        return None
