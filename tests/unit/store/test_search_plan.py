"""How a search is carried out, from counts alone."""

from dataclasses import replace

import pytest

from gateway.store.search_plan import Counts, Method, Plan, choose_plan, index_for, may_fall_back, most_compared

BOTH = {"has_hnsw": True, "has_binary": True}
NONE = {"has_hnsw": False, "has_binary": False}


@pytest.mark.parametrize(
    ("counts", "plan"),
    [
        (Counts(0, None, **BOTH), Plan(Method.EXACT, 0)),
        (Counts(10_000, None, **BOTH), Plan(Method.EXACT, 0)),
        (Counts(10_001, None, **BOTH), Plan(Method.HNSW, 100)),
        (Counts(10_001, None, **NONE), Plan(Method.EXACT, 0)),
        (Counts(300_000, None, has_hnsw=False, has_binary=True), Plan(Method.BINARY, 100)),
        (Counts(300_001, None, has_hnsw=False, has_binary=True), Plan(Method.BINARY, 1000)),
        # A filter that leaves little is cheaper to compare whole, and misses nothing.
        (Counts(1_000_000, 10_000, **BOTH), Plan(Method.EXACT, 0)),
        (Counts(1_000_000, 31_622, **BOTH), Plan(Method.EXACT, 0)),
        (Counts(1_000_000, 31_623, **BOTH), Plan(Method.HNSW, 100)),
        # The more candidates an index is asked for, the longer it looks for those that pass.
        (Counts(1_000_000, 100_000, has_hnsw=False, has_binary=True), Plan(Method.EXACT, 0)),
        (Counts(1_000_000, 100_001, has_hnsw=False, has_binary=True), Plan(Method.BINARY, 1000)),
        (Counts(20_000, 10_001, **BOTH), Plan(Method.HNSW, 100)),
        # A codebase among many is a filter, too; one that is most of its space is none.
        (Counts(50_000, None, has_hnsw=False, has_binary=True, in_space=10**6), Plan(Method.EXACT, 0)),
        (Counts(100_001, None, has_hnsw=False, has_binary=True, in_space=10**6), Plan(Method.BINARY, 1000)),
        (Counts(12_000, None, has_hnsw=False, has_binary=True, in_space=30_000), Plan(Method.BINARY, 100)),
        (Counts(12_000, None, has_hnsw=False, has_binary=True, in_space=200_000), Plan(Method.EXACT, 0)),
        (Counts(10_001, None, **BOTH, in_space=10_002), Plan(Method.HNSW, 100)),
        # How many candidates signs need follows from what is in the index.
        (Counts(250_000, None, has_hnsw=False, has_binary=True, in_space=400_000), Plan(Method.BINARY, 1000)),
        # Chunks without vector match the filter too.
        (Counts(9_000, 10_001, **BOTH), Plan(Method.EXACT, 0)),
    ],
)
def test_the_method_follows_from_counts(counts: Counts, plan: Plan) -> None:
    assert choose_plan(counts, page_size=10, pool=None) == plan


@pytest.mark.parametrize(("page_size", "pool"), [(1, 100), (10, 100), (11, 110), (100, 1000)])
def test_the_pool_grows_with_the_page_up_to_what_pgvector_takes(page_size: int, pool: int) -> None:
    counts = Counts(10**6, None, has_hnsw=True, has_binary=False)
    assert choose_plan(counts, page_size=page_size, pool=None) == Plan(Method.HNSW, pool)


def test_later_pages_keep_the_pool_of_the_first() -> None:
    """Another pool would be another list of candidates, and hits would be repeated or skipped."""
    counts = Counts(10**6, None, has_hnsw=True, has_binary=False)
    assert choose_plan(counts, page_size=100, pool=130) == Plan(Method.HNSW, 130)


def test_signs_do_not_know_weights_so_that_more_candidates_are_compared() -> None:
    counts = Counts(10**6, None, has_hnsw=False, has_binary=True)
    assert choose_plan(counts, page_size=10, pool=None, plain_weights=False) == Plan(Method.BINARY, 1000)


@pytest.mark.parametrize(("searched", "may"), [(100_000, True), (100_001, False)])
def test_everything_is_compared_after_all_only_where_that_is_bearable(searched: int, may: bool) -> None:
    assert may_fall_back(Counts(searched, None, **BOTH)) is may


@pytest.mark.parametrize(
    ("total", "largest", "index"),
    [(10**6, 10_000, Method.EXACT), (50_000, 10_001, Method.HNSW), (50_001, 10_001, Method.BINARY)],
)
def test_the_index_follows_from_the_size_of_the_space(total: int, largest: int, index: Method) -> None:
    assert index_for(total, largest, binary_limit=50_000) is index


def test_without_being_told_otherwise_an_index_is_over_signs() -> None:
    assert index_for(10_001, 10_001) is Method.BINARY


@pytest.mark.parametrize("index_suffices", [True, False])
@pytest.mark.parametrize("page_size", [1, 100])
@pytest.mark.parametrize("searched", [100_001, 300_000, 10**6, 10**8])
def test_matches_are_counted_as_far_as_they_decide(searched: int, page_size: int, index_suffices: bool) -> None:
    """So many are compared whole, and one more is not, nor is any number of which that is the first."""
    counts = Counts(searched, None, has_hnsw=False, has_binary=True, index_suffices=index_suffices)
    most = most_compared(choose_plan(counts, page_size=page_size, pool=None), counts)
    for matching, method in ((most, Method.EXACT), (most + 1, Method.BINARY)):
        assert choose_plan(replace(counts, matching=matching), page_size=page_size, pool=None).method is method


@pytest.mark.parametrize(
    ("counts", "plan", "ef"),
    [
        (Counts(10**6, None, has_hnsw=True, has_binary=False, least_ef=550), Plan(Method.HNSW, 100, 550), 550),
        # Signs rank coarsely: what is scanned further is ranked at full precision, too.
        (Counts(10**5, None, has_hnsw=False, has_binary=True, least_ef=650), Plan(Method.BINARY, 650, 650), 650),
        (Counts(10**5, None, has_hnsw=False, has_binary=True), Plan(Method.BINARY, 100), 100),
        (Counts(100_000, None, **BOTH, index_suffices=False), Plan(Method.EXACT, 0), 1),
        # Comparing a million for every search would be worse than what the index misses; the status says it.
        (Counts(10**6, None, **BOTH, least_ef=1000, index_suffices=False), Plan(Method.HNSW, 100, 1000), 1000),
        (Counts(10**6, 90_000, **BOTH, index_suffices=False), Plan(Method.EXACT, 0), 1),
    ],
)
def test_what_the_recall_watch_found_makes_searches_go_further(counts: Counts, plan: Plan, ef: int) -> None:
    chosen = choose_plan(counts, page_size=10, pool=None)
    assert (chosen, chosen.ef) == (plan, ef)
