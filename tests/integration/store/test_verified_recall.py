"""Verifying the index of a space, on graphs that were made good and bad on purpose, in every large codebase."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from store_samples import make_chunk

from gateway.embedding.space import passage_of
from gateway.embedding.vectors import Vectors
from gateway.spaces import verification
from gateway.spaces.serving import ServedSpace
from gateway.spaces.verification import Verification, verify
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.pool import Database
from gateway.store.rows import HitRow, SearchQuery, SpaceRow
from gateway.store.search import SearchStore
from gateway.store.search_plan import Method, Plan
from gateway.store.space_vectors import SpaceVectorStore
from gateway.store.spaces import SpaceStore

LIMIT, LARGE = 300, 800
GOOD, BAD = "m = 24, ef_construction = 200", "m = 2, ef_construction = 4"


class Texts(list[str]):
    """Texts as they are."""


class Embedder:
    """Gives a text the vector that was stored for its chunk. A test double: it runs no model."""

    def __init__(self) -> None:
        self.space = SimpleNamespace(fingerprint="a" * 64)
        self.vectors: dict[str, NDArray[np.float32]] = {}

    async def tokenize(self, texts: Sequence[str], input_type: Any) -> Texts:
        return Texts(texts)

    async def encode(self, texts: Texts, **options: Any) -> Vectors:
        return Vectors(np.stack([self.vectors[text] for text in texts]), {})


@dataclass
class Site:
    """A space beside the active one; the same vectors are in both."""

    database: Database
    chunks: ChunkStore
    active: ServedSpace
    beside: ServedSpace
    embedder: Embedder

    async def store(self, codebase_key: int, numbers: range) -> None:
        """Give a codebase chunks, with vectors in tight clusters: a graph of few links falls apart over them."""
        rows = [make_chunk(number) for number in numbers]
        vectors_BD = clustered(len(rows), seed=codebase_key)
        self.embedder.vectors |= {
            passage_of(row.symbol, row.content): vector_D for row, vector_D in zip(rows, vectors_BD, strict=True)
        }
        await self.chunks.insert(codebase_key, self.active.space_key, rows, vectors_BD, timeout_s=120)
        await self.execute(
            "INSERT INTO embeddings (space_key, chunk_id, codebase_key, embedding)"
            f" SELECT {self.beside.space_key}, chunk_id, codebase_key, embedding FROM embeddings"
            f" WHERE space_key = {self.active.space_key} AND codebase_key = {codebase_key} ON CONFLICT DO NOTHING"
        )

    async def build(self, options: str) -> None:
        """The index over signs, as the store names it, with its own options."""
        table = f"embeddings_s{self.beside.space_key}"
        await self.execute(f"DROP INDEX IF EXISTS {table}_binary")
        await self.execute(
            f"CREATE INDEX {table}_binary ON {table} USING hnsw"
            f" ((binary_quantize(embedding)::bit(2560)) bit_hamming_ops) WITH ({options})"
        )
        await self.execute(f"ANALYZE {table}")

    async def lose(self, codebase_key: int) -> None:
        """Have the index lack a codebase: its rows are written again while nothing is written to the index."""
        space_key = self.beside.space_key
        flag = f"UPDATE pg_index SET indisready = %s WHERE indexrelid = 'embeddings_s{space_key}_binary'::regclass"
        rows = f"FROM embeddings WHERE space_key = {space_key} AND codebase_key = {codebase_key}"
        await self.execute(f"CREATE TABLE kept AS SELECT * {rows}")
        await self.execute(f"DELETE {rows}")
        await self.execute(flag % "false")
        await self.execute("INSERT INTO embeddings SELECT * FROM kept")
        await self.execute(flag % "true")

    async def execute(self, statement: str) -> None:
        async with self.database.acquire(120, autocommit=True) as connection:
            await connection.execute(statement)

    async def verify(self, *, seed: int = 1) -> Verification:
        return await verify(self.database, self.beside, self.active, seed=seed, timeout_s=60)


def clustered(count: int, *, seed: int) -> NDArray[np.float32]:
    """(count, 2560) unit vectors in 30 clusters far from each other."""
    generator = np.random.default_rng(seed)
    centers = generator.standard_normal((30, 2560))
    vectors = centers[np.arange(count) % 30] + 0.3 * generator.standard_normal((count, 2560))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
async def site(database: Database, chunks: ChunkStore, space: SpaceRow, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(verification, "EXACT_LIMIT", LIMIT)
    # A few hundred vectors are compared whole.
    monkeypatch.setattr("gateway.store.search_plan._SCAN_PRICE", 0)
    embedder: Any = Embedder()
    beside = await SpaceStore(database).build("b" * 64, {}, timeout_s=5)
    return Site(
        database, chunks, ServedSpace(space.space_key, embedder), ServedSpace(beside.space_key, embedder), embedder
    )


@pytest.fixture
async def keys(site: Site, codebases: CodebaseStore) -> list[int]:
    """Two codebases too large for exact search, and one that is not."""
    keys = [(await codebases.create(name, name, timeout_s=5)).codebase_key for name in ("large", "less", "small")]
    for key, numbers in zip(keys, (range(LARGE), range(1000, 1001 + LIMIT), range(2000, 2000 + LIMIT)), strict=True):
        await site.store(key, numbers)
    return keys


async def test_a_good_graph_passes_and_a_bad_one_does_not(
    site: Site, keys: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With links enough for one hit in two, of which a query's own chunk is none. Against numpy."""
    await site.build(GOOD)
    found = await site.verify()
    assert (found.passed, found.faults) == (True, [])
    assert found.recall is not None
    assert [(one.codebase_id, one.query_count) for one in found.recall.codebases] == [("large", 50), ("less", 50)]
    assert (found.recall.method, found.recall.mean >= 0.99) == ("BINARY", True)

    asked: list[tuple[SearchQuery, Sequence[HitRow]]] = []
    rank_by = SearchStore.rank_by

    async def noting(
        store: SearchStore, key: int, space_key: int, query: SearchQuery, plan: Plan, **budget: Any
    ) -> Any:
        hits = await rank_by(store, key, space_key, query, plan, **budget)
        if (key, plan.method) == (keys[0], Method.BINARY):
            asked.append((query, hits))
        return hits

    monkeypatch.setattr(SearchStore, "rank_by", noting)
    await site.build(BAD)
    found = await site.verify()
    assert found.recall is not None
    assert [fault.split(" is ")[0] for fault in found.faults] == [
        "recall@10 of the index in large",
        "recall@10 of the index in large of the worst of 50 queries",
        "recall@10 of the index in less",
        "recall@10 of the index in less of the worst of 50 queries",
    ]
    halves_BD = clustered(LARGE, seed=keys[0]).astype(np.float16).astype(np.float64)
    halves_BD /= np.linalg.norm(halves_BD, axis=1, keepdims=True)
    recalls = []
    for query, hits in asked:
        assert query.excluded_chunk_id not in {None, *(hit.chunk_id for hit in hits)}
        # Itself comes first, and is not asked for.
        tenth = np.sort(halves_BD @ query.vector_D / np.linalg.norm(query.vector_D))[-11]
        recalls.append(sum(hit.similarity >= tenth - 2e-6 for hit in hits) / 10)
    [large, _] = found.recall.codebases
    assert large.mean == pytest.approx(np.mean(recalls), abs=0.02)
    assert large.minimum == pytest.approx(min(recalls), abs=0.1)


async def test_an_index_that_lacks_one_codebase_is_seen(
    site: Site, keys: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of them it is; and where there are many, the report says of which nothing is known."""
    await site.build(GOOD)
    await site.lose(keys[1])
    found = await site.verify()
    assert found.recall is not None
    assert [one.minimum > 0.5 for one in found.recall.codebases] == [True, False]
    assert (found.recall.mean, found.recall.minimum) == (0.0, 0.0)
    assert [fault.split(" is ")[0] for fault in found.faults] == [
        "recall@10 of the index in less",
        "recall@10 of the index in less of the worst of 50 queries",
    ]
    monkeypatch.setattr(verification, "EXACT_LIMIT", LIMIT - 1)
    assert "recall was measured" not in " ".join((await site.verify()).notices)
    monkeypatch.setattr(verification, "RECALL_CODEBASES", 1)
    found = await site.verify()
    assert found.recall is not None
    assert [one.codebase_id for one in found.recall.codebases] == ["large", "small"]
    assert "in the 1 largest and the 1 smallest of the 3 codebases" in found.notices[0]


async def test_codebases_that_are_compared_whole_are_not_asked_of_the_index(
    site: Site, keys: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But where all are, the largest is: who searches several at once asks the index."""
    await site.build(GOOD)
    monkeypatch.setattr("gateway.store.search_plan._SCAN_PRICE", 0.75)
    found = await site.verify()
    assert found.recall is not None
    assert [one.codebase_id for one in found.recall.codebases] == ["large"]
    monkeypatch.setattr("gateway.store.search_plan._SCAN_PRICE", 10)
    await site.store(keys[2], range(5000, 5600))
    await site.build(GOOD)  # with fresh counts
    found = await site.verify()
    assert found.recall is not None
    assert [one.codebase_id for one in found.recall.codebases] == ["small"]


async def test_every_seed_looks_at_other_chunks(site: Site, keys: list[int]) -> None:
    """One vector that is not its text's is found sooner or later, not never."""
    vectors = SpaceVectorStore(site.database)

    async def drawn(seed: int) -> tuple[list[int], list[int]]:
        sample = await vectors.sample(site.beside.space_key, 20, seed=seed, timeout_s=10)
        queries = await vectors.sample_codebase(site.beside.space_key, keys[0], 20, seed=seed, timeout_s=10)
        return [stored.chunk.chunk_id for stored in sample], list(queries)

    first, again, other = [await drawn(seed) for seed in (1, 1, 2)]
    assert first == again
    assert [len(set(one) & set(two)) < 10 for one, two in zip(first, other, strict=True)] == [True, True]
