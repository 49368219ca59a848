"""The recall watch on indexes that were made good and bad on purpose."""

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from store_callers import make_caller, set_role
from store_samples import make_chunk, make_vectors

from gateway.store.caller import acting_with
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.pool import Database
from gateway.store.recall_watch import RecallCheck, RecallStore, RecallWatch, recall
from gateway.store.rows import SearchQuery, SpaceRow
from gateway.store.search import SearchStore
from gateway.store.search_plan import Method
from gateway.telemetry.background import BackgroundFacts

ROWS, LIMIT = 1500, 400


def clustered(count: int) -> NDArray[np.float32]:
    """Vectors in tight clusters far from each other, which an HNSW graph of few links falls apart over."""
    generator = np.random.default_rng(5)
    centers = generator.standard_normal((30, 2560))
    vectors = centers[np.arange(count) % 30] + 0.3 * generator.standard_normal((count, 2560))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


async def store_rows(chunks: ChunkStore, codebase_key: int, space: SpaceRow, vectors_BD: NDArray[np.float32]) -> None:
    rows = [make_chunk(number) for number in range(len(vectors_BD))]
    await chunks.insert(codebase_key, space.space_key, rows, vectors_BD, timeout_s=120)


async def build(database: Database, space: SpaceRow, options: str, *, binary: bool = False) -> None:
    """An index as the store names it, with its own options."""
    what, name = (
        ("(binary_quantize(embedding)::bit(2560)) bit_hamming_ops", "binary")
        if binary
        else ("embedding halfvec_cosine_ops", "hnsw")
    )
    table = f"embeddings_s{space.space_key}"
    async with database.acquire(120, autocommit=True) as connection:
        await connection.execute(f"DROP INDEX IF EXISTS {table}_hnsw, {table}_binary")
        await connection.execute(f"CREATE INDEX {table}_{name} ON {table} USING hnsw ({what}) WITH ({options})")
        await connection.execute(f"ANALYZE {table}")


def watch_of(database: Database, *, target: float = 0.95, period_s: float = 3600.0) -> RecallWatch:
    return RecallWatch(database, target=target, period_s=period_s, duty=1.0, exact_limit=LIMIT)


async def only_check(database: Database, space: SpaceRow) -> RecallCheck:
    [stored] = await RecallStore(database).list(space.space_key, timeout_s=5)
    assert stored.codebase_id == "demo"
    return stored.check


async def search_method(database: Database, space: SpaceRow, codebase_key: int) -> tuple[Method, list[str]]:
    """How a search is carried out now, and the ef that its transaction got."""
    efs: list[str] = []
    store = SearchStore(database, exact_limit=LIMIT)
    rank = store._rank

    async def noting(connection: Any, *of_what: Any) -> Any:
        efs.append(await connection.fetchval("SELECT current_setting('hnsw.ef_search')"))
        return await rank(connection, *of_what)

    store._rank = noting  # type: ignore[method-assign]
    query = SearchQuery(make_vectors(1, seed=4)[0], limit=10)
    result = await store.search(["demo"], space.space_key, query, timeout_s=10)
    return result.method, efs


async def test_a_good_index_is_left_as_it_is(
    database: Database, chunks: ChunkStore, codebase_key: int, space: SpaceRow
) -> None:
    await store_rows(chunks, codebase_key, space, make_vectors(ROWS))
    assert await watch_of(database).check_due(space.space_key) == []  # no index yet
    await build(database, space, "m = 16, ef_construction = 64")
    assert await watch_of(database).check_due(space.space_key) == [codebase_key]
    check = await only_check(database, space)
    assert (check.method, check.ef, check.least_ef, check.index_suffices) == (Method.HNSW, 300, 0, True)
    assert check.mean_recall >= 0.95
    assert (check.query_count, check.vector_count, check.target_recall) == (20, ROWS, 0.95)
    assert await search_method(database, space, codebase_key) == (Method.HNSW, ["300"])
    # What is exported is this check.
    serving = SimpleNamespace(active=SimpleNamespace(space_key=space.space_key))
    facts = BackgroundFacts(None, database, serving)  # type: ignore[arg-type]
    await facts._ask_database()
    assert facts.recall is not None
    assert facts.recall.counts == {"usual": 1, "further": 0, "whole": 0, "below": 0}
    assert (facts.recall.least_mean_recall, facts.recall.least_recall) == (check.mean_recall, check.minimum_recall)
    # Nothing is due again so soon, and everything once the period is over.
    assert await watch_of(database).check_due(space.space_key) == []
    assert await watch_of(database, period_s=0.0).check_due(space.space_key) == [codebase_key]


async def test_below_the_target_the_ef_rises_and_then_everything_is_compared(
    database: Database, chunks: ChunkStore, codebase_key: int, space: SpaceRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph of two links a node, and scans that keep few candidates, miss hits; up to where more of them help."""
    monkeypatch.setattr("gateway.store.search._MAX_SCAN_TUPLES", 1)
    monkeypatch.setattr("gateway.store.search_plan.MIN_POOL", 10)
    monkeypatch.setattr("gateway.store.recall_watch.MIN_POOL", 10)
    steps = {"HNSW": (10, 80, 1000)}
    monkeypatch.setattr("gateway.store.search_plan.EF_STEPS", steps)
    monkeypatch.setattr("gateway.store.recall_watch.EF_STEPS", steps)
    await store_rows(chunks, codebase_key, space, make_vectors(ROWS))
    await build(database, space, "m = 4, ef_construction = 8")
    await watch_of(database, target=0.9).check_due(space.space_key)
    raised = await only_check(database, space)
    assert raised.index_suffices
    assert raised.least_ef == raised.ef > 10
    assert raised.mean_recall >= 0.9
    assert await search_method(database, space, codebase_key) == (Method.HNSW, [str(raised.ef)])
    # A target that this index cannot reach.
    await build(database, space, "m = 2, ef_construction = 4")
    await watch_of(database, target=1.0, period_s=0.0).check_due(space.space_key)
    given_up = await only_check(database, space)
    assert (given_up.index_suffices, given_up.ef) == (False, 1000)
    assert given_up.mean_recall < 1.0
    assert (await search_method(database, space, codebase_key))[0] is Method.EXACT
    # An index that was mended brings everything back.
    await build(database, space, "m = 16, ef_construction = 64")
    monkeypatch.undo()
    await watch_of(database, period_s=0.0).check_due(space.space_key)
    assert await search_method(database, space, codebase_key) == (Method.HNSW, ["300"])


async def test_the_measured_recall_is_that_of_brute_force(
    database: Database, chunks: ChunkStore, codebase_key: int, space: SpaceRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index's own hits of every sampled vector, compared with numpy's."""
    monkeypatch.setattr("gateway.store.search._MAX_SCAN_TUPLES", 1)
    for module in ("search_plan", "recall_watch"):
        monkeypatch.setattr(f"gateway.store.{module}.MIN_POOL", 10)
        monkeypatch.setattr(f"gateway.store.{module}.EF_STEPS", {"HNSW": (10,)})
    vectors_BD = clustered(ROWS)
    await store_rows(chunks, codebase_key, space, vectors_BD)
    await build(database, space, "m = 2, ef_construction = 4")
    watch = watch_of(database, target=1.0)
    asked: list[tuple[NDArray[np.float32], list[float], Method]] = []
    rank_by = watch._search.rank_by

    async def noting(key: int, space_key: int, query: SearchQuery, plan: Any, *, timeout_s: float) -> Any:
        hits = await rank_by(key, space_key, query, plan, timeout_s=timeout_s)
        asked.append((query.vector_D, [hit.similarity for hit in hits], plan.method))
        return hits

    watch._search.rank_by = noting  # type: ignore[method-assign]
    await watch.check_due(space.space_key)
    # Of what is stored, in float64: the tenth and the eleventh differ by no more than 1e-4 often.
    halves_BD = vectors_BD.astype(np.float16).astype(np.float64)
    halves_BD /= np.linalg.norm(halves_BD, axis=1, keepdims=True)
    recalls = []
    for query_D, found, method in asked:
        if method is Method.HNSW:
            # Itself comes first, and is not asked for.
            truth = np.sort(halves_BD @ (query_D / np.linalg.norm(query_D)))[::-1][1:11]
            recalls.append(np.mean([similarity >= truth[-1] - 2e-6 for similarity in found]) * len(found) / 10)
    check = await only_check(database, space)
    assert len(recalls) == 20
    assert check.mean_recall == pytest.approx(np.mean(recalls), abs=0.02)
    assert check.minimum_recall == pytest.approx(min(recalls), abs=0.1)
    assert check.mean_recall < 0.9


async def test_the_index_over_signs_is_watched_too_and_asked_for_more(
    database: Database, chunks: ChunkStore, codebase_key: int, space: SpaceRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best ten are not among the best ten by signs; among the best eighty, or a thousand, they are."""
    await store_rows(chunks, codebase_key, space, make_vectors(ROWS))
    await build(database, space, "m = 16, ef_construction = 64", binary=True)
    await watch_of(database, target=0.5).check_due(space.space_key)
    check = await only_check(database, space)
    assert (check.method, check.ef, check.least_ef, check.index_suffices) == (Method.BINARY, 100, 0, True)
    for module in ("search_plan", "recall_watch"):
        monkeypatch.setattr(f"gateway.store.{module}.MIN_POOL", 10)
        monkeypatch.setattr(f"gateway.store.{module}.EF_STEPS", {"BINARY": (10, 80, 1000)})
    await watch_of(database, target=0.9, period_s=0.0).check_due(space.space_key)
    raised = await only_check(database, space)
    assert (raised.method, raised.index_suffices) == (Method.BINARY, True)
    assert raised.least_ef == raised.ef > 10
    assert raised.mean_recall >= 0.9
    assert await search_method(database, space, codebase_key) == (Method.BINARY, [str(max(raised.ef, 100))])
    # Where all that may be ranked is not enough, everything is compared.
    await build(database, space, "m = 2, ef_construction = 4", binary=True)
    await watch_of(database, target=1.0, period_s=0.0).check_due(space.space_key)
    check = await only_check(database, space)
    assert (check.method, check.ef, check.index_suffices) == (Method.BINARY, 1000, False)
    assert (await search_method(database, space, codebase_key))[0] is Method.EXACT


async def test_a_large_codebase_is_asked_as_its_searches_ask(
    database: Database, chunks: ChunkStore, codebase_key: int, space: SpaceRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those rank as many candidates of signs as there may be; with fewer its recall would be another's."""
    monkeypatch.setattr("gateway.store.search_plan._LARGE", ROWS - 1)
    await store_rows(chunks, codebase_key, space, make_vectors(ROWS))
    await build(database, space, "m = 16, ef_construction = 64", binary=True)
    await watch_of(database, target=0.5).check_due(space.space_key)
    check = await only_check(database, space)
    assert (check.method, check.ef, check.least_ef, check.vector_count) == (Method.BINARY, 1000, 0, ROWS)


async def test_small_codebases_are_not_watched_and_one_gateway_is_enough(
    database: Database, chunks: ChunkStore, codebases: CodebaseStore, codebase_key: int, space: SpaceRow
) -> None:
    other = await codebases.create("small", "Small", timeout_s=5)
    await store_rows(chunks, codebase_key, space, make_vectors(600))
    await store_rows(chunks, other.codebase_key, space, make_vectors(100))
    await build(database, space, "m = 16")
    results = await asyncio.gather(*(watch_of(database).check_due(space.space_key) for _ in range(3)))
    assert sorted(results) == [[], [], [codebase_key]]


async def test_a_caller_sees_what_it_may_read_and_what_is_deleted_takes_its_check_along(
    caller_database: Database, database: Database, chunks: ChunkStore, codebase_key: int, space: SpaceRow
) -> None:
    await store_rows(chunks, codebase_key, space, make_vectors(500))
    await build(database, space, "m = 16")
    await watch_of(database).check_due(space.space_key)
    key = await make_caller(database, "reader")
    seen = []
    for role in (None, "READ"):
        await set_role(database, key, codebase_key, role)
        with acting_with(key):
            seen.append(len(await RecallStore(caller_database).list(space.space_key, timeout_s=5)))
    assert seen == [0, 1]
    await CodebaseStore(database).delete("demo", timeout_s=30)
    assert await RecallStore(database).list(space.space_key, timeout_s=5) == []


def test_recall_counts_ties_as_found() -> None:
    """Copies have equal similarities: which of them is shown is no loss."""
    assert recall([0.9, 0.8, 0.8], [0.9, 0.8, 0.8]) == 1.0
    assert recall([0.9, 0.8, 0.7], [0.9, 0.7, 0.6]) == pytest.approx(2 / 3)
    assert recall([0.9, 0.8], []) == 0.0
    assert recall([], []) == 1.0
