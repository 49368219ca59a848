"""How fast and how exactly the store searches: a table, and a JSON line for results/search.json.

Usage: python -m tests.benchmarks.search [--rows 20000,100000]   (needs the published compact pair in .duovec, once)

Vectors are those of the standard library; more rows than it has chunks are grown from them by noise of the measured
nearest-neighbour distance. Times are of `SearchStore.search`; those that begin with `rpc` are of the Search RPC, the
query embedded each time, by the method that the gateway chooses, and of its share in the database.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import asyncpg
import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from pgvector.asyncpg import register_vector

from gateway.local.postgres import Postgres
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.pool import Database
from gateway.store.rows import ChunkRow, FilterRow, SearchQuery
from gateway.store.search import SearchStore
from gateway.store.search_plan import Method, index_for
from gateway.store.search_words import LEXICAL_WEIGHT
from gateway.store.spaces import SpaceStore
from gateway.store.word_counts import WordCounts
from tests.benchmarks.keeping import keep, kept
from tests.benchmarks.search_corpus import Corpus, grow, load_corpus, nearest_distances
from tests.benchmarks.search_rpc import Service, requests_of, service

BATCH = 500
TIMEOUT_S = 600.0
RECALL_QUERIES, TIMED_QUERIES, CONCURRENT_CALLERS = 200, 200, 16
# A wide filter, which an index has to scan past, and a narrow one, which is compared whole.
WIDE = FilterRow(kinds=["method"])
NARROW = FilterRow(path_regex="^asyncio/.*$", path_from="asyncio/", path_below="asyncio0")
ALWAYS = 10**12
# Above this many rows the index over half floats is never built, exact search is measured a little, and what was grown
# has its symbol for content: words of a million copies would say nothing, and take an hour to split.
HUGE = 200_000


class Bench:
    """One database with one codebase of a given size."""

    def __init__(self, url: str, service: Service, corpus: Corpus, vectors_ND: NDArray[np.float16]) -> None:
        self.url, self.service, self.corpus, self.vectors_ND = url, service, corpus, vectors_ND
        self.figures: dict[str, float | int | str] = {"rows": len(vectors_ND)}

    async def load(self) -> None:
        """Migrate, store every chunk as the indexer does, then copy the vectors alone once more into a second space."""
        async with self.service.gateway(self.url):
            pass  # It makes the tables and the space.
        self.database = (await Database.connect(self.url, max_size=CONCURRENT_CALLERS)).as_system()
        self.key = (await CodebaseStore(self.database).create("bench", "Bench", timeout_s=9)).codebase_key
        [space] = await SpaceStore(self.database).list()
        self.space = space.space_key
        store, ids = ChunkStore(self.database), list[int]()
        started = time.perf_counter()
        for start in range(0, len(self.vectors_ND), BATCH):
            part = self.vectors_ND[start : start + BATCH]
            rows = [self._chunk(number) for number in range(start, start + len(part))]
            ids += await store.insert(self.key, self.space, rows, part.astype(np.float32), timeout_s=TIMEOUT_S)
        self.figures["store_rows_per_s"] = len(ids) / (time.perf_counter() - started)
        self.ids = np.array(ids)
        await self._copy()
        connection = await asyncpg.connect(self.url)
        await connection.execute("VACUUM ANALYZE")
        await connection.close()
        started = time.perf_counter()
        await WordCounts(self.database).refresh()
        self.figures["count_words_s"] = time.perf_counter() - started

    def _chunk(self, number: int) -> ChunkRow:
        turn, at = divmod(number, len(self.corpus.chunks))
        chunk = self.corpus.chunks[at]
        if turn and len(self.vectors_ND) > HUGE:
            chunk = replace(chunk, content=chunk.symbol or "x")
        return replace(chunk, path=f"{chunk.path}.{turn}") if turn else chunk

    async def _copy(self) -> None:
        """The rate of COPY alone: vectors of chunks that are there, into an empty partition."""
        count = min(len(self.ids), 20_000)
        records = [
            (2, int(chunk_id), self.key, HalfVector(vector))
            for chunk_id, vector in zip(self.ids[:count], self.vectors_ND[:count], strict=True)
        ]
        connection = await asyncpg.connect(self.url)
        await register_vector(connection)
        await connection.execute(
            "INSERT INTO spaces (fingerprint, manifest, state) VALUES (repeat('b', 64), '{}', 'STANDBY');"
            "CREATE TABLE embeddings_s2 PARTITION OF embeddings FOR VALUES IN (2);"
            "ALTER TABLE embeddings_s2 ALTER COLUMN embedding SET STORAGE PLAIN"
        )
        started = time.perf_counter()
        await connection.copy_records_to_table(
            "embeddings", columns=["space_key", "chunk_id", "codebase_key", "embedding"], records=records
        )
        self.figures["copy_rows_per_s"] = count / (time.perf_counter() - started)
        await connection.execute("DROP TABLE embeddings_s2")
        await connection.close()

    async def measure(self) -> None:
        """Every method, one after the other."""
        await self._measure_method("exact", Method.EXACT, exact_limit=ALWAYS)
        chosen = index_for(len(self.ids), len(self.ids))
        if chosen is Method.EXACT:
            await self._measure_rpc()
        indexes = [("hnsw", Method.HNSW, ALWAYS), ("binary", Method.BINARY, 0)]
        for name, method, above in indexes[len(self.ids) > HUGE :]:
            started = time.perf_counter()
            await SpaceStore(self.database, binary_above_count=above).build_hnsw_index(self.space, above_chunk_count=0)
            self.figures[f"{name}_build_s"] = time.perf_counter() - started
            # Searches are not to wait for the disk that writes what was built.
            async with self.database.acquire(TIMEOUT_S, autocommit=True) as connection:
                await connection.execute("CHECKPOINT")
                size_bytes = await connection.fetchval(
                    "SELECT pg_relation_size($1::text::regclass)", f"embeddings_s{self.space}_{name}"
                )
            self.figures[f"{name}_mib"] = size_bytes / 2**20
            # The narrow filter is to be compared whole, as the planner would have it.
            await self._measure_method(name, method, exact_limit=min(10_000, len(self.ids) // 4))
            if chosen is method:
                await self._measure_rpc()
        await self.database.close()

    async def _measure_rpc(self) -> None:
        async with self.service.gateway(self.url) as stub:
            for suffix, requests in requests_of(self.corpus.queries).items():
                for callers in (1, CONCURRENT_CALLERS):
                    count = (TIMED_QUERIES if callers == 1 else 2 * TIMED_QUERIES) // self._share(suffix)
                    times = await self.service.times(stub, requests, callers=callers, count=count)
                    self.figures |= {f"rpc{suffix}_{callers}_{name}": value for name, value in times.items()}

    async def _measure_method(self, name: str, method: Method, *, exact_limit: int) -> None:
        store = SearchStore(self.database, exact_limit=exact_limit)
        queries_QD = self.corpus.queries_QD
        plain = [SearchQuery(query_D, limit=10) for query_D in queries_QD]
        # Of exact search some show that it is exact.
        shown = RECALL_QUERIES if method is not Method.EXACT else 5 if len(self.ids) > HUGE else 20
        await self._recall(store, name, method, plain[:shown])
        kinds = {
            "": plain,
            "_wide": [replace(query, filter=WIDE) for query in plain],
            "_narrow": [replace(query, filter=NARROW) for query in plain],
            "_hybrid": [
                replace(query, text=text, lexical_weight=LEXICAL_WEIGHT)
                for query, text in zip(plain, self.corpus.queries, strict=True)
            ],
        }
        huge = len(self.ids) > HUGE
        if huge:
            del kinds["_hybrid"]
        for suffix, queries in kinds.items():
            for callers in (1,) if huge and method is Method.EXACT else (1, CONCURRENT_CALLERS):
                times = await self._times(store, queries, callers, share=self._share(suffix))
                self.figures[f"{name}{suffix}_{callers}_p50_ms"] = float(np.percentile(times, 50))
                self.figures[f"{name}{suffix}_{callers}_p99_ms"] = float(np.percentile(times, 99))

    async def _recall(self, store: SearchStore, name: str, method: Method, queries: list[SearchQuery]) -> None:
        """Recall@10 against numpy over the stored halves, chunk by chunk of rows to bound the memory."""
        scores = np.concatenate(
            [
                np.stack([query.vector_D for query in queries])
                @ self.vectors_ND[start : start + 50_000].astype(np.float32).T
                for start in range(0, len(self.vectors_ND), 50_000)
            ],
            axis=1,
        )
        row_by_id = {int(chunk_id): number for number, chunk_id in enumerate(self.ids)}
        recalls = []
        for query, row in zip(queries, scores, strict=True):
            result = await store.search(["bench"], self.space, query, timeout_s=TIMEOUT_S)
            if result.method is not method:
                raise RuntimeError(f"{result.method} answered instead of {method}")
            # Equal vectors make several sets the right one: what counts is the tenth score.
            tenth = np.partition(row, -10)[-10]
            positions = [row_by_id[hit.chunk_id] for hit in result.hits]
            recalls.append(float(np.mean(row[positions] >= tenth - 1e-4)))
        self.figures[f"{name}_recall_mean"] = float(np.mean(recalls))
        self.figures[f"{name}_recall_min"] = float(np.min(recalls))

    def _share(self, suffix: str) -> int:
        """One of how many timed queries is asked: a narrow filter of a huge codebase is compared whole."""
        return 5 if suffix == "_narrow" and len(self.ids) > HUGE else 1

    async def _times(
        self, store: SearchStore, queries: list[SearchQuery], callers: int, *, share: int = 1
    ) -> list[float]:
        """Wall times of searches in milliseconds, after five that are not counted."""
        count = (TIMED_QUERIES if callers == 1 else 2 * TIMED_QUERIES) // share
        if store._exact_limit == ALWAYS and len(self.ids) > 50_000:
            count = max(callers, count // (40 if len(self.ids) > HUGE else 10))
        waiting = [queries[number % len(queries)] for number in range(count)]
        times: list[float] = []

        async def search(query: SearchQuery) -> None:
            await store.search(["bench"], self.space, query, timeout_s=TIMEOUT_S)

        async def work() -> None:
            while waiting:
                started = time.perf_counter()
                await search(waiting.pop())
                times.append((time.perf_counter() - started) * 1000)

        for query in queries[-5 if count > 5 else -1 :]:
            await search(query)
        await asyncio.gather(*(work() for _ in range(callers)))
        return times


async def run(sizes: list[int]) -> list[dict[str, float | int | str]]:
    corpus = await asyncio.to_thread(load_corpus)
    distances = nearest_distances(corpus.vectors_ND)
    figures = []
    for size in sizes:
        vectors_ND = grow(corpus.vectors_ND, size, distances)
        with tempfile.TemporaryDirectory(prefix="duovec-bench-") as name:
            os.chmod(name, 0o755)  # noqa: PTH101 - PostgreSQL's account must be able to enter
            folder = Path(name)
            postgres = Postgres(folder / "data", log_path=folder / "postgres.log")
            await postgres.start()
            try:
                async with service(folder) as served:
                    bench = Bench(postgres.url, served, corpus, vectors_ND)
                    bench.figures["real_rows"] = min(size, len(corpus.vectors_ND))
                    bench.figures["nearest_distance_median"] = float(np.median(distances))
                    bench.figures["load_average"] = os.getloadavg()[0]
                    await bench.load()
                    await bench.measure()
            finally:
                await postgres.stop()
        figures.append({name: round(v, 4) if isinstance(v, float) else v for name, v in bench.figures.items()})
        print(json.dumps(figures[-1]), flush=True)
    return figures


def show(figures: list[dict[str, float | int | str]]) -> None:
    """A table with a column for each size."""
    for name in figures[0]:
        print(f"{name:<28}" + "".join(f"{row.get(name, ''):>14}" for row in figures))


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="20000", help="Sizes, separated by commas.")
    sizes = [int(size) for size in parser.parse_args().rows.split(",")]
    figures = asyncio.run(run(sizes))
    show(figures)
    runs = {row["rows"]: row for row in [*kept("search").get("runs", []), *figures]}
    keep("search", {"runs": [runs[rows] for rows in sorted(runs)]})


if __name__ == "__main__":
    main()
