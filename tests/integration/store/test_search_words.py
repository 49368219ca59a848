"""Search by words: how code is split into them, what a match weighs, and how it is joined with the vectors."""

from dataclasses import replace

import numpy as np
import pytest
from store_callers import make_caller, set_role
from store_samples import make_chunk, make_vectors, sha256

from gateway.errors import NotFound
from gateway.store.caller import acting_with
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.named_parameters import bind
from gateway.store.pool import Database
from gateway.store.rows import FilterRow, SearchQuery, SpaceRow
from gateway.store.search import SearchStore
from gateway.store.search_plan import Method
from gateway.store.search_statements import find_statement
from gateway.store.spaces import SpaceStore
from gateway.store.word_counts import WordCounts


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("parseRequest", "parse Request parseRequest"),
        ("HTTPServer", "HTTP Server HTTPServer"),
        ("parseHTTPResponse", "parse HTTP Response parseHTTPResponse"),
        ("getURL", "get URL getURL"),
        ("read_utf8", "read utf 8 readutf8"),
        ("MAX_SIZE", "MAX SIZE MAXSIZE"),
        ("HTTP2Server", "HTTP 2 Server HTTP2Server"),
        ("x1y2", "x 1 y 2 x1y2"),
        ("os.path.join(a, b)", "os path join a b"),
        ("__init__", "init"),
        ("_private", "private"),
        ("std::vector<int>", "std vector int"),
        ("$foo->bar", "foo bar"),
        ("naïveCafé", "naïve Café naïveCafé"),
        ("日本語_x", "日本語 x 日本語x"),
        ("a\x01b", "a b"),
        ("", ""),
        ("___ ::", ""),
    ],
)
async def test_code_is_split_as_programmers_write_it(database: Database, code: str, words: str) -> None:
    async with database.acquire(5) as connection:
        assert await connection.fetchval("SELECT code_words($1)", code) == words


async def test_a_chunk_of_a_million_characters_can_be_stored(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    """A tsvector holds a mebibyte; what does not fit into it is not found by words, but by its vector."""
    text = "".join(f"w{n}_" for n in range(140_000))
    assert len(text) > 900_000
    await chunks.insert(codebase_key, space.space_key, [make_chunk(1, text=text)], make_vectors(1), timeout_s=30)
    async with database.acquire(5) as connection:
        assert await connection.fetchval("SELECT length(words) FROM chunk_words") > 1000


async def lexical_order(store: SearchStore, space: SpaceRow, text: str) -> list[str]:
    """Symbols of the chunks with any word of the text, best words first."""
    query = SearchQuery(make_vectors(1, seed=1)[0], limit=50, text=text, lexical_weight=1.0)
    result = await store.search(["demo"], space.space_key, query, timeout_s=5)
    return [hit.chunk.symbol for hit in result.hits if hit.lexical_score > 0]


async def test_rare_words_and_symbols_count_more(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    """The definition before its uses; the rare word before the common one; no chunk without any of the words."""
    contents = {
        "Pool.putConnection": "def putConnection(self): ...",
        "caller": "pool.putConnection(connection)",
        "other": "connection = open()",
        "loop": "for connection in connections: connection.close()",
        "far": "return None",
    }
    rows = [replace(make_chunk(n, text=text), symbol=symbol) for n, (symbol, text) in enumerate(contents.items())]
    await chunks.insert(codebase_key, space.space_key, rows, make_vectors(len(rows)), timeout_s=5)
    store = SearchStore(database)
    assert await lexical_order(store, space, "put_connection") == [
        "Pool.putConnection", "caller", "loop", "other",
    ]  # fmt: skip
    assert await lexical_order(store, space, "where is the connection closed? close") == [
        "loop", "Pool.putConnection", "caller", "other",
    ]  # fmt: skip
    assert await lexical_order(store, space, "the of ; ()") == []


async def test_the_score_is_the_weighted_sum_and_words_follow_the_text(
    database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    vectors_BD, query_D = make_vectors(30), make_vectors(1, seed=1)[0]
    rows = [make_chunk(i) for i in range(30)]
    ids = await chunks.insert(codebase_key, space.space_key, rows, vectors_BD, timeout_s=5)
    store = SearchStore(database)
    query = SearchQuery(query_D, limit=50, text="f17", lexical_weight=0.25)
    result = await store.search(["demo"], space.space_key, query, timeout_s=5)
    for hit in result.hits:
        assert hit.similarity == pytest.approx(vectors_BD[ids.index(hit.chunk_id)] @ query_D, abs=1e-4)
        assert 0 <= hit.lexical_score <= 1
        assert hit.score == pytest.approx(0.75 * hit.similarity + 0.25 * hit.lexical_score, abs=1e-8)
    assert [hit.score for hit in result.hits] == sorted((hit.score for hit in result.hits), reverse=True)
    # Another text in its place takes the words with it.
    changed = replace(rows[17], symbol="renamed", content="renamed", text_sha256=sha256("renamed"))
    await chunks.insert(codebase_key, space.space_key, [changed], vectors_BD[17:18], timeout_s=5)
    assert await lexical_order(store, space, "renamed") == ["renamed"]
    assert "renamed" not in (await lexical_order(store, space, "def f17"))[:1]


async def test_an_identifier_is_found_though_its_vector_is_far_and_an_index_chose_the_candidates(
    database: Database,
    chunks: ChunkStore,
    codebases: CodebaseStore,
    space: SpaceRow,
    codebase_key: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Candidates come from the words as well; the counts of common words decide which words are looked up."""
    vectors_BD, [query_D] = make_vectors(200), make_vectors(1, seed=1)
    farthest = int(np.argmin(vectors_BD @ query_D))
    rows = [replace(make_chunk(i, text=f"common text {i}"), symbol="") for i in range(200)]
    rows[farthest] = replace(rows[farthest], symbol="HTTPServer.serve_forever", language="go")
    ids = await chunks.insert(codebase_key, space.space_key, rows, vectors_BD, timeout_s=60)
    await SpaceStore(database, binary_above_count=10**6).build_hnsw_index(space.space_key, above_chunk_count=100)
    store = SearchStore(database, exact_limit=100)
    query = SearchQuery(query_D, limit=10, text="http server common", lexical_weight=0.9)
    for counted in ([codebase_key], []):
        assert await WordCounts(database).refresh(above_chunk_count=100, least_count=150) == counted
        result = await store.search(["demo"], space.space_key, query, timeout_s=5)
        assert result.method is Method.HNSW
        assert result.hits[0].chunk_id == ids[farthest]
        assert result.hits[0].similarity == pytest.approx(vectors_BD[farthest] @ query_D, abs=1e-4)
    monkeypatch.setattr("gateway.store.search_plan._SCAN_PRICE", 0)
    # What the words find passes the filter too, though so much passes it that the index is asked.
    others = replace(query, filter=FilterRow(languages=["python"]))
    result = await store.search(["demo"], space.space_key, others, timeout_s=5)
    assert result.method is Method.HNSW
    assert ids[farthest] not in [hit.chunk_id for hit in result.hits]
    mine = replace(query, filter=FilterRow(languages=["go"]))
    [hit] = (await store.search(["demo"], space.space_key, mine, timeout_s=5)).hits
    assert hit.chunk_id == ids[farthest]


async def test_words_of_other_codebases_are_neither_found_nor_counted(
    database: Database, chunks: ChunkStore, codebases: CodebaseStore, space: SpaceRow, codebase_key: int
) -> None:
    other = await codebases.create("other", "Other", timeout_s=5)
    await chunks.insert(codebase_key, space.space_key, [make_chunk(1)], make_vectors(1), timeout_s=5)
    store, query = SearchStore(database), SearchQuery(make_vectors(1)[0], limit=5, text="f1", lexical_weight=0.5)
    before = await store.search(["demo"], space.space_key, query, timeout_s=5)
    await chunks.insert(
        other.codebase_key, space.space_key, [make_chunk(1, path=f"{n}.py") for n in range(50)],
        make_vectors(50), timeout_s=30,
    )  # fmt: skip
    after = await store.search(["demo"], space.space_key, query, timeout_s=5)
    assert after.hits == before.hits


async def test_words_that_the_caller_may_not_read_are_neither_found_nor_counted(
    caller_database: Database, database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int
) -> None:
    """The counts of words have no row-level security of their own: how common a word is tells of others' code."""
    caller = await make_caller(database, "somebody")
    rows = [make_chunk(number, text="def common(): pass") for number in range(60)]
    await chunks.insert(codebase_key, space.space_key, rows, make_vectors(60), timeout_s=5)
    async with database.acquire(5) as connection:
        await connection.execute("INSERT INTO word_counts VALUES ($1, 'common', 60)", codebase_key)
    query = SearchQuery(make_vectors(1)[0], limit=5, text="common", lexical_weight=1.0)
    store = SearchStore(caller_database, exact_limit=0)
    for role, chunk_count in ((None, None), ("READ", 60), (None, None)):
        await set_role(database, caller, codebase_key, role)
        with acting_with(caller):
            async with caller_database.acquire(5) as connection:
                values = {"codebase_ids": ["demo"], "space_key": space.space_key, "text": "common"}
                settings = {"timeout_ms": "5000", "ef_search": "100", "max_scan_tuples": "1000", "sort": "on"}
                sql, arguments = bind(find_statement(by_words=True), values | settings)
                [record] = await connection.fetch(sql, *arguments)
            assert (record["words"], record["word_chunk_counts"]) == (["common"], [chunk_count])
            assert record["codebase_key"] == (codebase_key if role else None)
            if role is None:
                with pytest.raises(NotFound):
                    await store.search(["demo"], space.space_key, query, timeout_s=5)
            else:
                result = await store.search(["demo"], space.space_key, query, timeout_s=5)
                assert (len(result.hits), result.candidate_count, result.searched_chunk_count) == (5, 60, 60)
                assert min(hit.lexical_score for hit in result.hits) > 0
