"""How a search is carried out, decided from counts. Pure: no database."""

import math
from dataclasses import dataclass
from enum import StrEnum

EXACT_LIMIT = 10_000
"""Up to this many vectors are compared whole: about 20 ms on one core, with every hit right. HNSW filters after the
scan, so that a small codebase among many costs it more than that, and recall."""

BINARY_LIMIT = 0
"""Above this many vectors a space's index is the one over signs: an eleventh of the other's size, measured to be
faster, and as exact or more, from 12,000 to 100,000; see DECISIONS.md. `DUOVEC_BINARY_INDEX_ABOVE` sets another."""

FALLBACK_LIMIT = 100_000
"""Up to this many vectors are compared whole when an index gave too few hits; above it the reply says so."""

MIN_POOL, MAX_POOL = 100, 1000
_POOL_PER_HIT = 10
# Above this many, signs are asked for as many candidates as pgvector takes. With 100, recall@10 is 0.998 to 1.0 up to
# 200,000 vectors. With 1,000 it is 1.0 at a million; with 200 it was 0.917 there, of an older graph. Where between them
# it falls is not known.
_LARGE = 300_000

# To find a chunk that passes a filter, an index is scanned past those that do not: past more than chance lets expect,
# as a folder or a language is about something, and a query is mostly about something else. So scanning past one counts
# for ten that are looked up and compared. Without this a folder of 49,000 among a million took over 18 s.
_SCAN_PRICE = 10.0

EF_STEPS = {"HNSW": (300, 550, MAX_POOL), "BINARY": (100, 300, 600, MAX_POOL)}
"""Candidates that a scan of an index keeps: at least the first number, measured at 100,000 vectors, where fewer by half
floats miss hits of clusters of near copies (see DECISIONS.md); the others where the recall watch found that it takes
more. pgvector takes no more than the last."""


class Method(StrEnum):
    """How candidates are found."""

    EXACT = "EXACT"
    HNSW = "HNSW"
    BINARY = "BINARY"


@dataclass(frozen=True, slots=True)
class Counts:
    """What is known before a search.

    Attributes:
        searched: Vectors of the codebases in the space.
        matching: Chunks that pass the filter, counted up to one more than `most_compared`; None where not counted.
        in_space: Vectors of all codebases in the space, by PostgreSQL's estimate; 0 where it has none.
        has_hnsw: Whether the space has a valid HNSW index over its vectors.
        has_binary: Whether it has one over their signs.
        least_ef: Candidates that a scan must keep for the codebases, as the recall watch found; 0 for the usual number.
        index_suffices: False where the watch found that no number is enough.
    """

    searched: int
    matching: int | None
    has_hnsw: bool
    has_binary: bool
    in_space: int = 0
    least_ef: int = 0
    index_suffices: bool = True

    @property
    def compared(self) -> int:
        """Vectors that exact search compares."""
        return self.searched if self.matching is None else min(self.matching, self.searched)

    @property
    def scanned(self) -> int:
        """Vectors in an index."""
        return max(self.searched, self.in_space)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do.

    Attributes:
        method: How candidates are found.
        pool: How many an index is asked for; 0 for exact search.
        least_ef: How many a scan must keep at least, beyond `EF_STEPS`.
    """

    method: Method
    pool: int
    least_ef: int = 0

    @property
    def ef(self) -> int:
        """How many candidates a scan keeps."""
        usual = 1 if self.method is Method.EXACT else EF_STEPS[self.method][0]
        return min(max(self.pool, usual, self.least_ef), MAX_POOL)


def choose_plan(
    counts: Counts, *, page_size: int, pool: int | None, plain_weights: bool = True, exact_limit: int = EXACT_LIMIT
) -> Plan:
    """Choose the method and the size of the candidate pool.

    Args:
        counts: See `Counts`.
        page_size: Hits of a page.
        pool: That of the first page, which later pages must keep; None on the first.
        plain_weights: False where the query weighs the encoders otherwise than the stored vectors do. Signs do not
            change with weights, so the index over them needs more candidates then.
        exact_limit: Vectors that are compared whole.
    """
    compared = counts.compared
    if compared <= exact_limit or not (counts.has_hnsw or counts.has_binary):
        return Plan(Method.EXACT, 0)
    if not counts.index_suffices and compared <= FALLBACK_LIMIT:
        return Plan(Method.EXACT, 0)
    pool = pool or min(max(_POOL_PER_HIT * page_size, MIN_POOL), MAX_POOL)
    plan = index_plan(counts, pool=pool, plain_weights=plain_weights)
    # A codebase among others is a filter, too: an index holds all of its space, and is scanned past the others.
    restricted = counts.matching is not None or 2 * counts.searched <= counts.scanned
    if restricted and compared <= most_compared(plan, counts, exact_limit=exact_limit):
        return Plan(Method.EXACT, 0)
    return plan


def most_compared(plan: Plan, counts: Counts, *, exact_limit: int = EXACT_LIMIT) -> int:
    """Up to how many chunks of a part of a space are compared whole rather than looked for by the index of `plan`."""
    limit = max(exact_limit, math.isqrt(int(_SCAN_PRICE * plan.pool * counts.scanned)))
    return limit if counts.index_suffices else max(limit, FALLBACK_LIMIT)


def asks_index(counts: Counts, *, exact_limit: int = EXACT_LIMIT) -> bool:
    """Whether a search for ten chunks of codebases asks an index, where there is one that suffices."""
    return choose_plan(counts, page_size=10, pool=None, exact_limit=exact_limit).method is not Method.EXACT


def index_plan(counts: Counts, *, pool: int, plain_weights: bool = True) -> Plan:
    """How an index is asked for at least `pool` candidates.

    Raises:
        ValueError: There is none.
    """
    if counts.has_hnsw:
        return Plan(Method.HNSW, pool, counts.least_ef)
    if not counts.has_binary:
        raise ValueError("no index to ask")
    # Signs rank coarsely: what is scanned further must be ranked at full precision, too.
    whole = counts.scanned > _LARGE or not plain_weights
    pool = MAX_POOL if whole else max(pool, counts.least_ef)
    return Plan(Method.BINARY, pool, counts.least_ef)


def may_fall_back(counts: Counts) -> bool:
    """Whether a search may be repeated exactly when an index gave too few hits."""
    return counts.searched <= FALLBACK_LIMIT


def index_for(
    vector_count: int, largest_codebase: int, *, exact_limit: int = EXACT_LIMIT, binary_limit: int = BINARY_LIMIT
) -> Method:
    """The index that a space needs; EXACT for none.

    Args:
        vector_count: Vectors of the space.
        largest_codebase: Vectors of its largest codebase.
        exact_limit: As in `choose_plan`.
        binary_limit: Vectors up to which the index holds them whole.
    """
    if largest_codebase <= exact_limit:
        return Method.EXACT
    return Method.BINARY if vector_count > binary_limit else Method.HNSW
