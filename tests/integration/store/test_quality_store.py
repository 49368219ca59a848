"""Quality from random logs, against ir-measures and numpy, which know neither the tables nor the SQL."""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, Qrel, ScoredDoc, Success, nDCG
from logged_searches import make_search, set_time, write
from numpy.typing import NDArray
from store_callers import make_caller, set_role
from store_samples import make_vectors

from gateway.errors import NotFound, PermissionDenied
from gateway.store.api_key import ApiKey
from gateway.store.caller import acting_with
from gateway.store.codebases import CodebaseStore
from gateway.store.feedback import FeedbackStore, Said
from gateway.store.pool import Database
from gateway.store.quality import Place, QualityRow, QualityStore, week_of

NOW = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)  # a Saturday
SPACES = ("a" * 64, "b" * 64)
SAID = (Said(opened=True), Said(useful=True), Said(useful=False), Said(opened=True, useful=True), Said(True, False))
GRADES = (1, 2, 0, 2, 0)
CLICKED = (True, True, False, True, True)


@dataclass(frozen=True)
class Logged:
    """A search of the random log, as the test made it."""

    time: datetime
    space: str
    named: Sequence[str]
    hits: Sequence[tuple[int, str]]
    said: Mapping[int, int]
    vector_D: NDArray[np.float32] | None


async def make_codebases(database: Database, names: Sequence[str]) -> dict[str, int]:
    store = CodebaseStore(database)
    return {name: (await store.create(name, name, timeout_s=5)).codebase_key for name in names}


async def make_log(
    database: Database, caller_database: Database, keys: Mapping[str, int], callers: Sequence[ApiKey], count: int
) -> list[Logged]:
    """Searches over six weeks, one or more codebases each, some without hits, some with feedback."""
    generator = random.Random(4)
    vectors = make_vectors(count)
    logged = []
    for number in range(count):
        named = generator.sample(sorted(keys), min(len(keys), generator.choice((1, 1, 2, 3))))
        hit_count = generator.choice((0, 1, 3, 10, 14))
        chunk_ids = generator.sample(range(1, 1000), hit_count)
        judged = generator.sample(chunk_ids, min(hit_count, generator.choice((0, 0, 1, 2, 12))))
        logged.append(
            Logged(
                time=NOW - timedelta(days=generator.uniform(0, 42)),
                space=generator.choice(SPACES),
                named=named,
                hits=[(chunk_id, generator.choice(named)) for chunk_id in chunk_ids],
                said={chunk_id: generator.randrange(len(SAID)) for chunk_id in judged},
                vector_D=vectors[number] if generator.random() < 0.9 else None,
            )
        )
    asked = [generator.choice(callers) for _ in logged]
    ids = await write(
        database,
        [
            make_search(
                key,
                [keys[name] for name in one.named],
                [(chunk_id, keys[name]) for chunk_id, name in one.hits],
                vector_D=one.vector_D,
                space=one.space,
            )
            for one, key in zip(logged, asked, strict=True)
        ],
    )
    store = FeedbackStore(caller_database, None)
    for search_id, one, key in zip(ids, logged, asked, strict=True):
        await set_time(database, search_id, one.time)
        if one.said:
            with acting_with(key):
                said = {chunk_id: SAID[number] for chunk_id, number in one.said.items()}
                await store.record(search_id, said, timeout_s=5)
    return logged


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def measure(searches: Sequence[tuple[Logged, Sequence[int]]]) -> tuple[object, ...]:
    """Every figure but the drift, of searches and what each showed of the codebase."""
    run = [ScoredDoc(str(n), str(id_), -rank) for n, (_, ids) in enumerate(searches) for rank, id_ in enumerate(ids)]
    grades, clicks = [], []
    for n, (one, ids) in enumerate(searches):
        for id_ in ids:
            if id_ in one.said:
                grades.append(Qrel(str(n), str(id_), GRADES[one.said[id_]]))
                clicks.append(Qrel(str(n), str(id_), int(CLICKED[one.said[id_]])))
    by_measure = defaultdict(list)
    for metric in (
        *ir_measures.iter_calc([RR, nDCG @ 10], grades, run),
        *ir_measures.iter_calc([Success @ 1, Success @ 3, Success @ 10], clicks, run),
    ):
        by_measure[metric.measure].append(metric.value)
    return (
        len(searches),
        sum(not one.hits for one, _ in searches),
        len({qrel.query_id for qrel in grades}),
        *(sum(by_measure[Success @ k]) / len(searches) for k in (1, 3, 10)),
        mean(by_measure[RR]),
        mean(by_measure[nDCG @ 10]),
    )


def unbiased_mmd(now_ND: NDArray[np.float32], before_ND: NDArray[np.float32]) -> float | None:
    """By all pairs, as the estimator is defined."""
    if len(now_ND) < 2 or len(before_ND) < 2:
        return None

    def within(vectors_ND: NDArray[np.float32]) -> float:
        gram = vectors_ND @ vectors_ND.T
        return float(gram[~np.eye(len(gram), dtype=bool)].mean())

    now, before = (np.stack(x).astype(np.float16).astype(np.float64) for x in (now_ND, before_ND))
    return within(now) + within(before) - 2 * float((now @ before.T).mean())


def expected_rows(logged: Sequence[Logged], names: Sequence[str], *, together: bool, weeks: int) -> dict[Place, tuple]:
    """What the store must say, by place."""
    groups: dict[Place, list[tuple[Logged, list[int]]]] = defaultdict(list)
    for one in logged:
        week = week_of(one.time)
        if together:
            groups["", one.space, week].append((one, [id_ for id_, _ in one.hits]))
        for name in names:
            ids = [id_ for id_, of in one.hits if of == name]
            if name in one.named and (ids or not one.hits):
                groups[name, one.space, week].append((one, ids))
    since = week_of(NOW) - timedelta(weeks=weeks - 1)
    vectors = {place: [one.vector_D for one, _ in group if one.vector_D is not None] for place, group in groups.items()}
    rows = {}
    for place, group in groups.items():
        name, space, week = place
        if week < since:
            continue
        before = [v for back in range(1, 5) for v in vectors.get((name, space, week - timedelta(weeks=back)), [])]
        rows[place] = (*measure(group), unbiased_mmd(vectors[place], before), len(vectors[place]), len(before))
    return rows


def figures(row: QualityRow) -> tuple[object, ...]:
    return (
        row.search_count,
        row.zero_hit_count,
        row.judged_count,
        row.click_through_at_1,
        row.click_through_at_3,
        row.click_through_at_10,
        row.mrr,
        row.ndcg_at_10,
        row.query_drift,
        row.drift_query_count,
        row.drift_reference_count,
    )


async def list_rows(
    store: QualityStore, *, codebase_id: str = "", space: str = "", weeks: int = 12
) -> list[QualityRow]:
    return await store.list(
        codebase_id=codebase_id, space=space, week_count=weeks, after=None, limit=1000, timeout_s=10, now=NOW
    )


def check(rows: Sequence[QualityRow], expected: dict[Place, tuple]) -> None:
    assert [row.place for row in rows] == sorted(expected)
    for row in rows:
        assert figures(row) == pytest.approx(expected[row.place], abs=1e-6, nan_ok=True), row.place


async def test_every_figure_equals_brute_force_over_a_random_log(database: Database, caller_database: Database) -> None:
    """For an administrator, for the owner of two of three codebases, for the system; by space, and by fewer weeks."""
    keys = await make_codebases(database, ("one", "two", "three"))
    callers = [await make_caller(database, f"caller-{n}") for n in range(3)]
    admin, owner = await make_caller(database, "boss", is_admin=True), await make_caller(database, "owner")
    for key in keys.values():
        for caller in callers:
            await set_role(database, caller, key, "READ")
    for name in ("one", "three"):
        await set_role(database, owner, keys[name], "OWNER")
    await set_role(database, owner, keys["two"], "WRITE")
    logged = await make_log(database, caller_database, keys, callers, 400)
    store = QualityStore(caller_database)
    everything = expected_rows(logged, sorted(keys), together=True, weeks=12)
    # The log has what makes the figures differ.
    assert len(everything) > 40
    assert sum(row[2] > 1 for row in everything.values()) > 20
    with acting_with(admin):
        check(await list_rows(store), everything)
        check(await list_rows(store, weeks=3), expected_rows(logged, sorted(keys), together=True, weeks=3))
        in_one = {place: row for place, row in everything.items() if place[1] == SPACES[0]}
        check(await list_rows(store, space=SPACES[0]), in_one)
    check(await list_rows(QualityStore(database)), everything)
    with acting_with(owner):
        check(await list_rows(store), expected_rows(logged, ("one", "three"), together=False, weeks=12))
        check(await list_rows(store, codebase_id="three"), expected_rows(logged, ("three",), together=False, weeks=12))
        with pytest.raises(PermissionDenied, match="takes the role OWNER on codebase 'two'; yours is WRITE"):
            await list_rows(store, codebase_id="two")
        with pytest.raises(NotFound, match="'four' does not exist"):
            await list_rows(store, codebase_id="four")
    with acting_with(callers[0]):
        assert await list_rows(store) == []
        with pytest.raises(PermissionDenied):
            await list_rows(store, codebase_id="one")


async def test_pages_are_the_one_long_list(database: Database, caller_database: Database) -> None:
    """Whatever their size, with the same figures."""
    keys = await make_codebases(database, ("one", "two"))
    caller = await make_caller(database, "caller", is_admin=True)
    await make_log(database, caller_database, keys, [caller], 80)
    store = QualityStore(caller_database)
    with acting_with(caller):
        whole = await list_rows(store)
        assert len(whole) > 20
        for limit in (1, 7):
            rows: list[QualityRow] = []
            while True:
                page = await store.list(
                    codebase_id="",
                    space="",
                    week_count=12,
                    after=rows[-1].place if rows else None,
                    limit=limit,
                    timeout_s=10,
                    now=NOW,
                )
                rows += page
                if len(page) < limit:
                    break
            check(rows, {row.place: figures(row) for row in whole})


async def log_one(
    database: Database, caller_database: Database, key: ApiKey, codebase_key: int, said: Mapping[int, Said]
) -> UUID:
    """A search that showed chunks 1 to 20, and what was said of it."""
    [search_id] = await write(
        database, [make_search(key, [codebase_key], [(chunk_id, codebase_key) for chunk_id in range(1, 21)])]
    )
    if said:
        with acting_with(key):
            await FeedbackStore(caller_database, None).record(search_id, said, timeout_s=5)
    return search_id


async def test_figures_by_hand(database: Database, caller_database: Database, codebase_key: int) -> None:
    """Useful at 2, opened at 1 and 12: (1 + 2/log2(3)) / (2 + 1/log2(3) + 1/2), and an unhappy search beside it."""
    key = await make_caller(database, "caller", is_admin=True)
    good = {2: Said(useful=True), 1: Said(opened=True), 12: Said(opened=True)}
    await log_one(database, caller_database, key, codebase_key, good)
    store = QualityStore(database)
    [_, row] = await store.list(codebase_id="", space="", week_count=1, after=None, limit=9, timeout_s=5)
    log2_3 = np.log2(3)
    assert (row.codebase_id, row.search_count, row.judged_count) == ("demo", 1, 1)
    assert row.ndcg_at_10 == pytest.approx((1 + 2 / log2_3) / (2 + 1 / log2_3 + 1 / 2))
    assert (row.mrr, row.click_through_at_1, row.click_through_at_10) == (1.0, 1.0, 1.0)
    assert (row.query_drift, row.drift_query_count) == (None, 0)
    await log_one(database, caller_database, key, codebase_key, {3: Said(opened=True, useful=False)})
    await log_one(database, caller_database, key, codebase_key, {})
    [_, row] = await store.list(codebase_id="", space="", week_count=1, after=None, limit=9, timeout_s=5)
    assert (row.search_count, row.judged_count, row.mrr) == (3, 2, 0.5)
    # It was opened, which is a click, and of no use, which is no gain.
    assert (row.click_through_at_1, row.click_through_at_3) == (pytest.approx(1 / 3), pytest.approx(2 / 3))


async def test_a_deleted_codebase_has_no_quality(
    database: Database, caller_database: Database, codebase_key: int
) -> None:
    key = await make_caller(database, "caller", is_admin=True)
    await log_one(database, caller_database, key, codebase_key, {1: Said(useful=True)})
    await CodebaseStore(database).delete("demo", timeout_s=5)
    store = QualityStore(database)
    assert await store.list(codebase_id="", space="", week_count=9, after=None, limit=9, timeout_s=5) == []


async def test_of_many_queries_a_sample_is_compared(
    database: Database, caller_database: Database, codebase_key: int
) -> None:
    """Each week's own, and none twice: a sample of all is the same as all, and of a smaller one the counts say so."""
    key = await make_caller(database, "caller", is_admin=True)
    vectors = make_vectors(60)
    ids = await write(database, [make_search(key, [codebase_key], [], vector_D=vector_D) for vector_D in vectors])
    for number, search_id in enumerate(ids):
        await set_time(database, search_id, NOW - timedelta(weeks=number % 2))

    async def rows(sample: int) -> list[QualityRow]:
        return await list_rows(QualityStore(database, drift_sample=sample), codebase_id="demo", space="a" * 64)

    expected = unbiased_mmd(vectors[::2], vectors[1::2])
    for sample in (30, 1000):
        [_, row] = await rows(sample)
        assert (row.drift_query_count, row.drift_reference_count) == (30, 30)
        assert row.query_drift == pytest.approx(expected, abs=1e-6)
    [_, row] = await rows(10)
    assert (row.drift_query_count, row.drift_reference_count) == (10, 10)
    chosen = [
        vectors[[number for number in range(60) if number % 2 == odd and ids[number] in sorted(ids[odd::2])[:10]]]
        for odd in (0, 1)
    ]
    assert row.query_drift == pytest.approx(unbiased_mmd(*chosen), abs=1e-6)
