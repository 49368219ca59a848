"""Pages of a search: together they are the one long list, whatever their size and the method."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from store_samples import make_chunk, make_vectors

from gateway.store.chunks import ChunkStore
from gateway.store.pool import Database
from gateway.store.rows import SearchQuery, SearchResult, SpaceRow
from gateway.store.search import SearchStore
from gateway.store.search_plan import Method
from gateway.store.spaces import SpaceStore


async def all_pages(store: SearchStore, space_key: int, query: SearchQuery) -> tuple[list[int], SearchResult]:
    """The ids of every page, and the result of the last one."""
    ids: list[int] = []
    while True:
        result = await store.search(["demo"], space_key, query, timeout_s=10)
        ids += [hit.chunk_id for hit in result.hits]
        if not result.has_more:
            return ids, result
        query = next_page(query, result)


def next_page(query: SearchQuery, result: SearchResult) -> SearchQuery:
    last = result.hits[-1]
    return replace(query, pool=result.pool, word_weights=result.word_weights, after=(last.score, last.chunk_id))


@pytest.mark.parametrize("page_size", [1, 7, 60])
async def test_pages_of_an_exact_search_are_the_whole_order(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int, page_size: int
) -> None:
    """Ties included: ten vectors stand there four times each, and a page may end between equals."""
    vectors_BD = np.concatenate([make_vectors(20), np.repeat(make_vectors(10, seed=3), 4, axis=0)])
    ids = await chunks.insert(
        codebase_key, space.space_key, [make_chunk(i) for i in range(60)], vectors_BD, timeout_s=30
    )
    [query_D] = make_vectors(1, seed=1)
    found, last = await all_pages(SearchStore(database), space.space_key, SearchQuery(query_D, limit=page_size))
    stored_BD = vectors_BD.astype(np.float16).astype(np.float64)
    scores = {
        chunk_id: round(float(v @ query_D.astype(np.float16).astype(np.float64)) / float(np.linalg.norm(v)), 5)
        for chunk_id, v in zip(ids, stored_BD, strict=True)
    }
    assert sorted(found) == sorted(ids)
    order = [scores[chunk_id] for chunk_id in found]
    assert all(earlier >= later - 2e-5 for earlier, later in pairwise(order))
    copies = [sorted(ids[20 + 4 * n : 24 + 4 * n]) for n in range(10)]
    for group in copies:
        start = found.index(group[0])
        assert found[start : start + 4] == group
    assert not last.candidates_exhausted


async def test_pages_of_hybrid_search_are_the_whole_order(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    ids = await chunks.insert(
        codebase_key, space.space_key, [make_chunk(i) for i in range(60)], make_vectors(60), timeout_s=30
    )
    [query_D] = make_vectors(1, seed=1)
    query = SearchQuery(query_D, limit=60, text="def f17 f18", lexical_weight=0.5)
    store = SearchStore(database)
    whole, _ = await all_pages(store, space.space_key, query)
    paged, _ = await all_pages(store, space.space_key, replace(query, limit=7))
    assert paged == whole
    assert set(whole) == set(ids)


async def test_a_chunk_that_is_added_between_pages_repeats_no_hit(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    vectors_BD = make_vectors(31)
    await chunks.insert(
        codebase_key, space.space_key, [make_chunk(i) for i in range(30)], vectors_BD[:30], timeout_s=30
    )
    store, query = SearchStore(database), SearchQuery(vectors_BD[30], limit=10)
    first = await store.search(["demo"], space.space_key, query, timeout_s=5)
    await chunks.insert(codebase_key, space.space_key, [make_chunk(30)], vectors_BD[30:], timeout_s=30)
    rest, _ = await all_pages(store, space.space_key, next_page(query, first))
    assert len(rest) == 20
    assert not set(rest) & {hit.chunk_id for hit in first.hits}


async def test_words_weigh_on_later_pages_what_they_did_on_the_first(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    """A word is rarer among more chunks, so that every score would be another one, and the list be cut elsewhere."""
    vectors_BD = make_vectors(130)
    rows = [make_chunk(i, text="def parse(x):\n    read(x)" if i % 2 else "def write(x)") for i in range(130)]
    await chunks.insert(codebase_key, space.space_key, rows[:30], vectors_BD[:30], timeout_s=30)
    store = SearchStore(database)
    query = SearchQuery(vectors_BD[129], limit=10, text="parse read f7", lexical_weight=0.4)
    whole, _ = await all_pages(store, space.space_key, replace(query, limit=100))
    first = await store.search(["demo"], space.space_key, query, timeout_s=5)
    assert {"parse", "read"} <= set(first.word_weights)
    added = await chunks.insert(codebase_key, space.space_key, rows[30:129:2], vectors_BD[30:129:2], timeout_s=30)
    rest, last = await all_pages(store, space.space_key, next_page(query, first))
    assert last.word_weights == first.word_weights
    listed = [hit.chunk_id for hit in first.hits] + rest
    assert len(listed) == len(set(listed))
    assert [chunk_id for chunk_id in listed if chunk_id not in added] == whole
    anew = await store.search(["demo"], space.space_key, query, timeout_s=5)
    assert anew.word_weights["parse"] > first.word_weights["parse"]


async def test_pages_of_an_index_are_its_candidates_and_then_it_is_said_that_there_is_more(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where comparing everything is too much, the end of the candidates is not taken for the end of the hits."""
    vectors_BD = make_vectors(300)
    await chunks.insert(codebase_key, space.space_key, [make_chunk(i) for i in range(300)], vectors_BD, timeout_s=60)
    await SpaceStore(database, binary_above_count=10**6).build_hnsw_index(space.space_key, above_chunk_count=100)
    [query_D] = make_vectors(1, seed=1)
    query, store = SearchQuery(query_D, limit=12), SearchStore(database, exact_limit=100)
    monkeypatch.setattr("gateway.store.search_plan.FALLBACK_LIMIT", 0)
    found, last = await all_pages(store, space.space_key, query)
    assert (last.method, last.pool, last.candidates_exhausted) == (Method.HNSW, 120, True)
    expected = np.argsort(-(vectors_BD @ query_D))[:120]
    assert len(found) == len(set(found)) == 120
    by_rank = await store.search(["demo"], space.space_key, replace(query, limit=100, pool=120), timeout_s=5)
    assert [hit.chunk_id for hit in by_rank.hits] == found[:100]
    assert by_rank.hits[0].chunk.symbol == f"f{expected[0]}"
    # Allowed to, it compares everything and goes on to the end, and cannot know what the index missed.
    monkeypatch.setattr("gateway.store.search_plan.FALLBACK_LIMIT", 1000)
    found, last = await all_pages(store, space.space_key, query)
    assert len(found) == len(set(found)) == 300
    assert (last.method, last.candidates_exhausted) == (Method.EXACT, True)


async def test_what_an_index_missed_on_earlier_pages_is_not_passed_over_in_silence(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    """Signs rank random vectors coarsely: of the best 200 of 300 some are no candidates, and then above the cut."""
    vectors_BD = make_vectors(300)
    await chunks.insert(codebase_key, space.space_key, [make_chunk(i) for i in range(300)], vectors_BD, timeout_s=60)
    await SpaceStore(database).build_hnsw_index(space.space_key, above_chunk_count=100)
    [query_D] = make_vectors(1, seed=1)
    store = SearchStore(database, exact_limit=100)
    least = float(np.sort(vectors_BD @ query_D)[-200])
    found, last = await all_pages(store, space.space_key, SearchQuery(query_D, limit=10, min_score=least))
    assert 100 <= len(found) < 199
    assert (last.method, last.candidates_exhausted) == (Method.EXACT, True)
    # A list that an index gave nothing of is whole.
    found, last = await all_pages(
        SearchStore(database, exact_limit=300), space.space_key, SearchQuery(query_D, limit=10, min_score=least)
    )
    assert abs(len(found) - 200) <= 2
    assert (last.method, last.candidates_exhausted) == (Method.EXACT, False)
