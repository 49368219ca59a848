import asyncio
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from store_samples import make_chunk, make_vectors

from gateway.errors import BadVector, ChunkNotFound, DeadlineExceeded, NotFound
from gateway.rpc.path_globs import path_range, path_regex
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.pool import Database
from gateway.store.rows import FilterRow, SearchQuery, SpaceRow
from gateway.store.search import SearchStore
from gateway.store.search_plan import Method
from gateway.store.space_vectors import SpaceVectorStore
from gateway.store.spaces import SpaceStore


def nearest(vectors_BD: NDArray[np.float32], query_D: NDArray[np.float32], limit: int) -> list[int]:
    return list(np.argsort(-(vectors_BD @ query_D), kind="stable")[:limit])


async def test_exact_search_equals_brute_force(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    vectors_BD = make_vectors(300)
    rows = [make_chunk(i) for i in range(300)]
    ids = await chunks.insert(codebase_key, space.space_key, rows, vectors_BD, timeout_s=30)
    for query_D in make_vectors(5, seed=1):
        result = await SearchStore(database).search(
            ["demo"], space.space_key, SearchQuery(query_D, limit=10), timeout_s=5
        )
        expected = nearest(vectors_BD, query_D, 10)
        assert [hit.chunk_id for hit in result.hits] == [ids[i] for i in expected]
        np.testing.assert_allclose([h.score for h in result.hits], (vectors_BD @ query_D)[expected], atol=1e-4)
        assert [hit.chunk for hit in result.hits] == [rows[i] for i in expected]
        assert (result.method, result.candidate_count) == (Method.EXACT, 300)
        assert (result.searched_chunk_count, result.pending_chunk_count) == (300, 0)
        assert not result.candidates_exhausted


async def test_equal_scores_come_in_the_order_of_chunk_ids(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    vectors_BD = np.repeat(make_vectors(1), 20, axis=0)
    ids = await chunks.insert(
        codebase_key, space.space_key, [make_chunk(i) for i in range(20)], vectors_BD, timeout_s=5
    )
    result = await SearchStore(database).search(
        ["demo"], space.space_key, SearchQuery(vectors_BD[0], limit=5), timeout_s=5
    )
    assert [hit.chunk_id for hit in result.hits] == sorted(ids)[:5]
    assert result.hits[0].score == pytest.approx(1, abs=1e-4)


async def test_one_query_searches_many_codebases(
    database: Database, chunks: ChunkStore, codebases: CodebaseStore, space: SpaceRow, codebase_key: int
) -> None:
    """And no other codebase than those that it names."""
    keys = [codebase_key] + [(await codebases.create(name, name, timeout_s=5)).codebase_key for name in ("b", "c")]
    vectors_BD = make_vectors(90)
    ids: list[int] = []
    for n, key in enumerate(keys):
        part = slice(30 * n, 30 * n + 30)
        rows = [make_chunk(i) for i in range(30)]
        ids += await chunks.insert(key, space.space_key, rows, vectors_BD[part], timeout_s=30)
    [query_D] = make_vectors(1, seed=1)
    result = await SearchStore(database).search(
        ["c", "demo"], space.space_key, SearchQuery(query_D, limit=20), timeout_s=5
    )
    allowed = [*range(30), *range(60, 90)]
    expected = [allowed[i] for i in nearest(vectors_BD[allowed], query_D, 20)]
    assert [hit.chunk_id for hit in result.hits] == [ids[i] for i in expected]
    assert [hit.codebase_key for hit in result.hits] == [keys[i // 30] for i in expected]
    assert result.searched_chunk_count == 60
    assert list(result.codebase_ids.items()) == [(keys[2], "c"), (keys[0], "demo")]
    assert result.revisions == {}


async def test_the_first_codebase_that_is_not_there_is_named(
    database: Database, space: SpaceRow, codebase_key: int
) -> None:
    store, [query_D] = SearchStore(database), make_vectors(1)
    with pytest.raises(NotFound, match="'no' does not exist"):
        await store.search(["demo", "no", "never"], space.space_key, SearchQuery(query_D, limit=1), timeout_s=5)
    with pytest.raises(NotFound, match="'no' does not exist"):
        await store.get_vector(["demo", "no"], space.space_key, 1, timeout_s=5)


async def test_the_words_of_a_query_count_for_all_of_its_codebases(
    database: Database, chunks: ChunkStore, codebases: CodebaseStore, space: SpaceRow, codebase_key: int
) -> None:
    """The words are looked up once, however many codebases are named; also where one of them is empty."""
    await codebases.create("empty", "Empty", timeout_s=5)
    other = (await codebases.create("other", "Other", timeout_s=5)).codebase_key
    vectors_BD = make_vectors(20)
    for key, part in ((codebase_key, range(10)), (other, range(10, 20))):
        rows = [make_chunk(i, text=f"def open_socket_{i}(): pass") for i in part]
        await chunks.insert(key, space.space_key, rows, vectors_BD[list(part)], timeout_s=5)
    query = SearchQuery(vectors_BD[0], limit=20, text="open socket 13", lexical_weight=1.0)
    result = await SearchStore(database).search(["empty", "demo", "other"], space.space_key, query, timeout_s=5)
    assert len(result.hits) == 20
    assert result.hits[0].chunk.content == "def open_socket_13(): pass"
    assert result.hits[0].lexical_score > result.hits[1].lexical_score > 0


@pytest.mark.parametrize(
    ("row", "passes"),
    [
        (FilterRow(languages=["go", "rust"]), lambda i: i % 3 in (1, 2)),
        (FilterRow(kinds=["class"]), lambda i: i % 2 == 1),
        (FilterRow(languages=["go"], kinds=["class"]), lambda i: i % 3 == 1 and i % 2 == 1),
        (FilterRow(path_regex=r"^(?:src\/f0001[^/]*\.py)$"), lambda i: 10 <= i < 20),
        (
            FilterRow(path_regex=r"^src\/f0001.*$", path_from="src/f0001", path_below="src/f0002"),
            lambda i: 10 <= i < 20,
        ),
        (FilterRow(languages=["cobol"]), lambda i: False),
    ],
)
async def test_filters_equal_brute_force_over_what_they_let_through(
    database: Database,
    chunks: ChunkStore,
    space: SpaceRow,
    codebase_key: int,
    row: FilterRow,
    passes: Callable[[int], bool],
) -> None:
    vectors_BD = make_vectors(100)
    rows = [
        replace(make_chunk(i), language=("python", "go", "rust")[i % 3], kind=("function", "class")[i % 2])
        for i in range(100)
    ]
    ids = await chunks.insert(codebase_key, space.space_key, rows, vectors_BD, timeout_s=30)
    [query_D] = make_vectors(1, seed=1)
    result = await SearchStore(database).search(
        ["demo"], space.space_key, SearchQuery(query_D, limit=50, filter=row), timeout_s=5
    )
    allowed = [i for i in range(100) if passes(i)]
    expected = [ids[allowed[i]] for i in nearest(vectors_BD[allowed], query_D, 50)]
    assert [hit.chunk_id for hit in result.hits] == expected
    assert (result.candidate_count, result.has_more) == (len(allowed), len(allowed) > 50)


@pytest.mark.parametrize(
    "globs",
    [
        [f"{'*a' * 16}{n}" for n in range(16)],
        [f"*a{'?' * 15}b{n}" for n in range(16)],
        [f"{'**/' * 16}b{n}" for n in range(16)],
        [f"{'a*' * 15}?/b{n}" for n in range(16)],
        ["?" * 16 + "".join(chr(0x4E00 + (n * 16 + at) % 256) for at in range(240)) for n in range(16)],
    ],
)
async def test_a_glob_that_explodes_elsewhere_is_harmless(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int, globs: list[str]
) -> None:
    """Against paths that almost match; by backtracking each would take longer than anybody waits.

    Characters of Chinese are what PostgreSQL takes longest to compile: as many as are allowed.
    """
    letters = "".join("ab"[int(bit)] for bit in np.random.default_rng(0).integers(2, size=1024))
    paths = ["a" * 1024, "/".join(["a"] * 512), "a" * 511 + "/" + "a" * 512, letters]
    rows = [make_chunk(n, path=path) for n, path in enumerate(paths)]
    await chunks.insert(codebase_key, space.space_key, rows, make_vectors(4), timeout_s=30)
    path_from, path_below = path_range(globs)
    row = FilterRow(path_regex=path_regex("f", globs), path_from=path_from, path_below=path_below)
    query = SearchQuery(make_vectors(1)[0], limit=5, filter=row)
    result = await SearchStore(database).search(["demo"], space.space_key, query, timeout_s=10)
    assert result.hits == ()


async def test_a_minimum_score_leaves_out_what_is_below(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    vectors_BD = make_vectors(100)
    ids = await chunks.insert(
        codebase_key, space.space_key, [make_chunk(i) for i in range(100)], vectors_BD, timeout_s=30
    )
    [query_D] = make_vectors(1, seed=1)
    result = await SearchStore(database).search(
        ["demo"], space.space_key, SearchQuery(query_D, limit=100, min_score=0.1), timeout_s=5
    )
    expected = [i for i in nearest(vectors_BD, query_D, 100) if vectors_BD[i] @ query_D >= 0.1]
    assert 0 < len(expected) < 100
    assert [hit.chunk_id for hit in result.hits] == [ids[i] for i in expected]


async def test_a_stored_vector_comes_back_and_its_chunk_can_be_left_out(
    database: Database, chunks: ChunkStore, codebases: CodebaseStore, space: SpaceRow, codebase_key: int
) -> None:
    """What "more like this" is made of; a chunk of another codebase is none of the caller's business."""
    await codebases.create("other", "Other", timeout_s=5)
    vectors_BD = make_vectors(50)
    ids = await chunks.insert(
        codebase_key, space.space_key, [make_chunk(i) for i in range(50)], vectors_BD, timeout_s=30
    )
    store = SearchStore(database)
    vector_D = await store.get_vector(["demo"], space.space_key, ids[7], timeout_s=5)
    np.testing.assert_allclose(vector_D, vectors_BD[7], atol=1e-3)
    query = SearchQuery(vector_D, limit=5, excluded_chunk_id=ids[7])
    result = await store.search(["demo"], space.space_key, query, timeout_s=5)
    assert [hit.chunk_id for hit in result.hits] == [ids[i] for i in nearest(vectors_BD, vectors_BD[7], 6)[1:]]
    for keys, chunk_id in ((["other"], ids[7]), (["demo"], 10**9)):
        with pytest.raises(ChunkNotFound, match=f"chunk {chunk_id} is not among"):
            await store.get_vector(keys, space.space_key, chunk_id, timeout_s=5)


async def test_vectors_of_another_space_are_never_found(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    vectors_BD = make_vectors(2)
    ids = await chunks.insert(codebase_key, space.space_key, [make_chunk(0), make_chunk(1)], vectors_BD, timeout_s=5)
    other = await SpaceStore(database).build("b" * 64, {}, timeout_s=5)
    vectors = SpaceVectorStore(database)
    pending = await vectors.find_pending(other.space_key, ids[0], 10, timeout_s=5)
    await vectors.insert(other.space_key, pending, vectors_BD[1:], timeout_s=5)
    async with database.acquire(5) as connection:
        await connection.execute(
            "DELETE FROM embeddings WHERE chunk_id = $1 AND space_key = $2", ids[1], space.space_key
        )
    result = await SearchStore(database).search(
        ["demo"], space.space_key, SearchQuery(vectors_BD[1], limit=10), timeout_s=5
    )
    assert [hit.chunk.symbol for hit in result.hits] == ["f0"]
    assert (result.searched_chunk_count, result.pending_chunk_count) == (1, 1)


async def test_100_searches_at_once_share_10_connections(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    vectors_BD = make_vectors(100)
    ids = await chunks.insert(
        codebase_key, space.space_key, [make_chunk(i) for i in range(100)], vectors_BD, timeout_s=30
    )
    search = SearchStore(database)
    results = await asyncio.gather(
        *(search.search(["demo"], space.space_key, SearchQuery(v, limit=1), timeout_s=30) for v in vectors_BD)
    )
    assert [result.hits[0].chunk_id for result in results] == ids


@pytest.mark.parametrize("query_D", [np.zeros(2560), np.full(2560, np.nan), np.ones(384)])
async def test_a_query_that_is_no_vector_of_the_space_is_refused(
    database: Database, space: SpaceRow, codebase_key: int, query_D: NDArray[np.float64]
) -> None:
    with pytest.raises(BadVector):
        await SearchStore(database).search(["demo"], 1, SearchQuery(query_D.astype(np.float32), limit=10), timeout_s=5)


async def test_the_server_drops_a_query_whose_deadline_passed(database: Database, url: str) -> None:
    with pytest.raises(DeadlineExceeded):
        async with database.acquire(0.2) as connection:
            await connection.execute("SELECT pg_sleep(60) /* late */")
    async with database.acquire(5) as connection:
        running = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%/* late */'"
            " AND pid <> pg_backend_pid()"
        )
    assert running == 0
