"""Search by an index: it is used, it finds what brute force finds, and what it cannot find is said."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from store_samples import make_chunk, make_vectors

from gateway.store import search, search_plan
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.named_parameters import bind
from gateway.store.pool import Database
from gateway.store.rows import FilterRow, SearchQuery, SpaceRow
from gateway.store.search import SearchStore
from gateway.store.search_plan import Method, Plan
from gateway.store.search_statements import count_statement, rank_statement
from gateway.store.spaces import SpaceStore

ROW_COUNT = 500


@pytest.fixture
async def ids(chunks: ChunkStore, codebases: CodebaseStore, space: SpaceRow, codebase_key: int) -> list[int]:
    """Ids of 500 chunks of the codebase, beside 300 of another one."""
    other = await codebases.create("other", "Other", timeout_s=5)
    vectors_BD, rows = make_vectors(ROW_COUNT), [make_chunk(i) for i in range(ROW_COUNT)]
    ids = await chunks.insert(codebase_key, space.space_key, rows, vectors_BD, timeout_s=60)
    await chunks.insert(other.codebase_key, space.space_key, rows[:300], vectors_BD[:300], timeout_s=60)
    return ids


def best(query_D: NDArray[np.float32], limit: int = 10) -> list[int]:
    return list(np.argsort(-(make_vectors(ROW_COUNT) @ query_D))[:limit])


async def test_the_hnsw_index_finds_what_brute_force_finds_among_other_codebases(
    database: Database, ids: list[int], space: SpaceRow, codebase_key: int
) -> None:
    spaces, store = SpaceStore(database, binary_above_count=10**6), SearchStore(database, exact_limit=400)
    assert not await spaces.build_hnsw_index(space.space_key)
    assert await spaces.build_hnsw_index(space.space_key, above_chunk_count=400)
    assert not await spaces.build_hnsw_index(space.space_key, above_chunk_count=400)
    found = 0
    for query_D in make_vectors(20, seed=1):
        result = await store.search(["demo"], space.space_key, SearchQuery(query_D, limit=10), timeout_s=5)
        assert (result.method, len(result.hits), result.candidates_exhausted) == (Method.HNSW, 10, False)
        found += len({hit.chunk_id for hit in result.hits} & {ids[i] for i in best(query_D)})
    assert found >= 190  # recall@10 of 0.95


async def test_the_index_over_signs_replaces_the_other_and_its_candidates_are_ranked_at_full_precision(
    database: Database, ids: list[int], space: SpaceRow, codebase_key: int
) -> None:
    whole, spaces = SpaceStore(database, binary_above_count=10**6), SpaceStore(database)
    store = SearchStore(database, exact_limit=400)
    assert await whole.build_hnsw_index(space.space_key, above_chunk_count=400)
    assert await spaces.build_hnsw_index(space.space_key, above_chunk_count=400)
    assert not await spaces.build_hnsw_index(space.space_key, above_chunk_count=400)
    indexes = await store.get_indexes(space.space_key, timeout_s=5)
    assert (indexes.has_hnsw, indexes.has_binary) == (False, True)
    vectors_BD = make_vectors(ROW_COUNT)
    found = 0
    for query_D in make_vectors(20, seed=1):
        result = await store.search(["demo"], space.space_key, SearchQuery(query_D, limit=10), timeout_s=5)
        assert (result.method, result.candidate_count) == (Method.BINARY, 100)
        found += len({hit.chunk_id for hit in result.hits} & {ids[i] for i in best(query_D)})
        expected = [vectors_BD[ids.index(hit.chunk_id)] @ query_D for hit in result.hits]
        np.testing.assert_allclose([hit.score for hit in result.hits], expected, atol=1e-4)
    assert found >= 180  # recall@10 of 0.9
    # And back, where somebody says so.
    assert await whole.build_hnsw_index(space.space_key, above_chunk_count=400)
    indexes = await store.get_indexes(space.space_key, timeout_s=5)
    assert (indexes.has_hnsw, indexes.has_binary) == (True, False)


@pytest.mark.parametrize("method", [Method.HNSW, Method.BINARY])
@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("by_words", [False, True])
async def test_the_plan_reads_the_index(
    database: Database,
    ids: list[int],
    space: SpaceRow,
    codebase_key: int,
    monkeypatch: pytest.MonkeyPatch,
    method: Method,
    filtered: bool,
    by_words: bool,
) -> None:
    """EXPLAIN of the very statement, in its transaction, names the index and no other way to the vectors."""
    above = 700 if method is Method.BINARY else 10**6
    await SpaceStore(database, binary_above_count=above).build_hnsw_index(space.space_key, above_chunk_count=400)
    monkeypatch.setattr("gateway.store.search_plan._SCAN_PRICE", 0)
    plans: list[str] = []
    fetch = search._fetch_statement
    ranks = rank_statement(method, filtered=filtered, by_words=by_words)

    async def explaining(connection: Any, sql: str, values: Any) -> Any:
        if sql == ranks:
            statement, arguments = bind(sql, values)
            plans.append(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *arguments))
        return await fetch(connection, sql, values)

    monkeypatch.setattr(search, "_fetch_statement", explaining)
    rows = FilterRow(languages=["python"]) if filtered else FilterRow()
    query = SearchQuery(
        make_vectors(1, seed=1)[0], limit=10, text="f17" if by_words else "", lexical_weight=0.2, filter=rows
    )
    result = await SearchStore(database, exact_limit=100).search(["demo"], space.space_key, query, timeout_s=10)
    assert result.method is method
    [plan] = plans
    [nearest] = [node for node in nodes_of(json.loads(plan)[0]["Plan"]) if node.get("Subplan Name") == "CTE nearest"]
    scans = {
        (node["Node Type"], node.get("Index Name"))
        for node in nodes_of(nearest)
        if node.get("Relation Name", "").startswith("embeddings")
    }
    assert scans == {("Index Scan", f"embeddings_s{space.space_key}_{method.lower()}")}
    assert [node for node in nodes_of(nearest) if "Sort" in node["Node Type"]] == []


async def test_a_transaction_is_configured_for_the_search_that_it_is_about(
    database: Database, ids: list[int], space: SpaceRow, codebase_key: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins as the last one of the same codebases ended; where something else is to be done, that is set again."""
    built = SpaceStore(database, binary_above_count=400)
    await built.build_hnsw_index(space.space_key, above_chunk_count=400)
    store, configured, configure = SearchStore(database, exact_limit=400), [], search._configure
    rank = store._rank
    seen: list[tuple[str, str]] = []

    async def noting(connection: Any, *of_what: Any) -> Any:
        seen.append(
            tuple(await connection.fetchrow("SELECT current_setting('hnsw.ef_search'), current_setting('enable_sort')"))
        )
        return await rank(connection, *of_what)

    async def counting(connection: Any, plan: Plan, timeout_s: float) -> None:
        configured.append(plan.method)
        await configure(connection, plan, timeout_s)

    monkeypatch.setattr(store, "_rank", noting)
    monkeypatch.setattr(search, "_configure", counting)
    query = SearchQuery(make_vectors(1, seed=1)[0], limit=10)
    few = FilterRow(path_regex="^src/f0001.\\.py$", path_from="src/f0001", path_below="src/f0002")
    for asked, expected, configurations in (
        (query, ("100", "off"), 1),
        (query, ("100", "off"), 1),
        (replace(query, limit=40), ("400", "off"), 2),
        (replace(query, filter=few), ("1", "on"), 2),
        (query, ("100", "off"), 3),
    ):
        await store.search(["demo"], space.space_key, asked, timeout_s=5)
        assert seen[-1] == expected
        assert len(configured) == configurations
    async with database.acquire(5) as connection:
        await connection.execute(f"DROP INDEX embeddings_s{space.space_key}_binary")
    for configurations in (4, 4):
        result = await store.search(["demo"], space.space_key, query, timeout_s=5)
        assert (result.method, seen[-1], len(configured)) == (Method.EXACT, ("1", "on"), configurations)


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A node of a plan and all below it."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes_of(child)


@pytest.mark.parametrize(
    ("row", "index"),
    [
        (FilterRow(kinds=["class"]), "chunks_language_kind"),
        (FilterRow(languages=["go"]), "chunks_language_kind"),
        (
            FilterRow(path_regex="^src/.*$", path_from="src/", path_below="src0"),
            "chunks_codebase_key_path_file_sha256_ordinal_key",
        ),
    ],
)
async def test_what_passes_a_filter_is_counted_without_reading_chunks(
    database: Database, ids: list[int], space: SpaceRow, codebase_key: int, row: FilterRow, index: str
) -> None:
    query = SearchQuery(make_vectors(1)[0], limit=10, filter=row)
    values = search._values(space.space_key, query) | {"codebase_keys": [codebase_key], "limit": 10**6}
    sql, arguments = bind(count_statement(), values)
    async with database.acquire(5, autocommit=True) as connection:
        await connection.execute("VACUUM ANALYZE chunks")
    async with database.acquire(5) as connection:
        # The planner reads a few hundred chunks from end to end; of many it does what it must do here.
        await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        [plan] = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {sql}", *arguments))
    scans = [(node["Node Type"], node["Index Name"]) for node in nodes_of(plan["Plan"]) if "Index Name" in node]
    assert scans == [("Index Only Scan", index)]


async def test_a_filter_that_leaves_little_is_searched_exactly_though_the_codebase_is_large(
    database: Database, ids: list[int], space: SpaceRow, codebase_key: int
) -> None:
    """An index would have to scan past almost everything, and would miss some."""
    await SpaceStore(database, binary_above_count=10**6).build_hnsw_index(space.space_key, above_chunk_count=400)
    store = SearchStore(database, exact_limit=400)
    [query_D] = make_vectors(1, seed=1)
    few = FilterRow(path_regex="^src/f0001.\\.py$", path_from="src/f0001", path_below="src/f0002")
    result = await store.search(["demo"], space.space_key, SearchQuery(query_D, limit=5, filter=few), timeout_s=5)
    assert (result.method, result.candidate_count) == (Method.EXACT, 10)
    order = [10 + int(i) for i in np.argsort(-(make_vectors(ROW_COUNT)[10:20] @ query_D))[:5]]
    assert [hit.chunk_id for hit in result.hits] == [ids[i] for i in order]


async def test_a_scan_goes_on_until_enough_pass_the_filter(
    database: Database, ids: list[int], space: SpaceRow, codebase_key: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten candidates at a time, of which one in eight is of the codebase and passes: once would not be enough."""
    await SpaceStore(database, binary_above_count=10**6).build_hnsw_index(space.space_key, above_chunk_count=400)
    monkeypatch.setattr("gateway.store.search_plan.EF_STEPS", {"HNSW": (1,)})
    monkeypatch.setattr("gateway.store.search_plan.FALLBACK_LIMIT", 0)
    monkeypatch.setattr("gateway.store.search_plan._SCAN_PRICE", 0)
    [query_D] = make_vectors(1, seed=1)
    query = SearchQuery(query_D, limit=9, pool=10, filter=FilterRow(path_regex="^src/f004.*$"))
    result = await SearchStore(database, exact_limit=50).search(["demo"], space.space_key, query, timeout_s=5)
    assert (result.method, len(result.hits), result.candidates_exhausted) == (Method.HNSW, 9, False)
    assert {hit.chunk_id for hit in result.hits} <= set(ids[400:])


@pytest.mark.parametrize("fallback_limit", [0, 10**6])
async def test_an_index_that_gives_too_few_hits_says_so_or_everything_is_compared(
    database: Database,
    ids: list[int],
    space: SpaceRow,
    codebase_key: int,
    monkeypatch: pytest.MonkeyPatch,
    fallback_limit: int,
) -> None:
    """The scan is stopped early, as a filter of few among many would stop it."""
    await SpaceStore(database, binary_above_count=10**6).build_hnsw_index(space.space_key, above_chunk_count=400)
    monkeypatch.setattr(search, "_MAX_SCAN_TUPLES", 1)
    monkeypatch.setattr("gateway.store.search_plan.EF_STEPS", {"HNSW": (1,)})
    monkeypatch.setattr("gateway.store.search_plan.MIN_POOL", 1)
    monkeypatch.setattr("gateway.store.search_plan.FALLBACK_LIMIT", fallback_limit)
    rows = FilterRow(path_regex="^src/f00[0-1].*$")
    [query_D] = make_vectors(1, seed=1)
    query = SearchQuery(query_D, limit=20, pool=1, filter=rows)
    result = await SearchStore(database, exact_limit=100).search(["demo"], space.space_key, query, timeout_s=5)
    if fallback_limit:
        order = np.argsort(-(make_vectors(ROW_COUNT)[:200] @ query_D))[:20]
        assert [hit.chunk_id for hit in result.hits] == [ids[i] for i in order]
        assert (result.method, result.candidates_exhausted, result.has_more) == (Method.EXACT, False, True)
    else:
        assert (result.method, result.candidates_exhausted, result.has_more) == (Method.HNSW, True, False)
        assert len(result.hits) < 20


@pytest.mark.parametrize("fallback_limit", [0, 10**6])
async def test_a_full_page_of_too_few_candidates_by_signs_is_no_answer(
    database: Database,
    ids: list[int],
    space: SpaceRow,
    codebase_key: int,
    monkeypatch: pytest.MonkeyPatch,
    fallback_limit: int,
) -> None:
    """Of the first candidates by signs the most similar are not the most similar there are."""
    await SpaceStore(database).build_hnsw_index(space.space_key, above_chunk_count=400)
    monkeypatch.setattr(search, "_MAX_SCAN_TUPLES", 1)
    monkeypatch.setattr("gateway.store.search_plan.FALLBACK_LIMIT", fallback_limit)
    monkeypatch.setattr(search_plan.Plan, "ef", 6)
    [query_D] = make_vectors(1, seed=1)
    query = SearchQuery(query_D, limit=5, pool=490)
    result = await SearchStore(database, exact_limit=100).search(["demo"], space.space_key, query, timeout_s=5)
    if fallback_limit:
        order = np.argsort(-(make_vectors(ROW_COUNT) @ query_D))[:5]
        assert [hit.chunk_id for hit in result.hits] == [ids[i] for i in order]
        assert (result.method, result.candidates_exhausted) == (Method.EXACT, False)
    else:
        assert (result.method, len(result.hits), result.has_more) == (Method.BINARY, 5, True)
        assert result.candidate_count < 490
        assert result.candidates_exhausted


@pytest.mark.parametrize(
    ("method", "min_score", "exhausted"),
    [
        (Method.HNSW, None, True),
        (Method.HNSW, -1.0, True),
        (Method.HNSW, 0.99, False),
        (Method.BINARY, 0.99, True),
    ],
)
async def test_hits_below_the_minimum_are_not_missed(
    database: Database,
    ids: list[int],
    space: SpaceRow,
    codebase_key: int,
    monkeypatch: pytest.MonkeyPatch,
    method: Method,
    min_score: float | None,
    exhausted: bool,
) -> None:
    """What HNSW did not give is less similar than what it gave, so above that nothing is missing; signs tell less."""
    above = 700 if method is Method.BINARY else 10**6
    await SpaceStore(database, binary_above_count=above).build_hnsw_index(space.space_key, above_chunk_count=400)
    monkeypatch.setattr("gateway.store.search_plan.FALLBACK_LIMIT", 0)
    query = SearchQuery(make_vectors(1, seed=1)[0], limit=200, pool=100, min_score=min_score)
    result = await SearchStore(database, exact_limit=100).search(["demo"], space.space_key, query, timeout_s=5)
    assert (result.method, result.candidates_exhausted) == (method, exhausted)
