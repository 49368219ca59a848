"""Search: a codebase's chunks by cosine similarity."""

from typing import TYPE_CHECKING

import asyncpg
import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector

from gateway.errors import BadVector
from gateway.store.pool import Database
from gateway.store.queries import load_queries
from gateway.store.rows import DIMENSION, ChunkRow, HitRow, SearchResult

if TYPE_CHECKING:
    from gateway.store.pool import Connection

# Up to this many vectors a codebase is compared whole: about 20 ms for 10,000 on one core, with every hit right. HNSW
# filters by codebase after the scan, so that a small codebase among many costs it more than that, and recall.
EXACT_LIMIT = 10_000

# Candidates that an HNSW scan keeps: twice the hits wanted, and enough for recall when few are.
_MINIMUM_EF_SEARCH = 100
_MAXIMUM_EF_SEARCH = 1000  # The limit of pgvector.
# How many vectors, of any codebase, an HNSW scan visits before it gives up; pgvector's 20,000 finds too few hits of
# a codebase that is a hundredth of its space.
_MAX_SCAN_TUPLES = 100_000

_QUERIES = load_queries("search.sql")


class SearchStore:
    """Finds chunks near a vector."""

    def __init__(self, database: Database, *, exact_limit: int = EXACT_LIMIT) -> None:
        """Use `database` for every call; codebases up to `exact_limit` vectors are searched exactly."""
        self._database = database
        self._exact_limit = exact_limit

    async def search(
        self, codebase_key: int, space_key: int, query_D: NDArray[np.float32], *, limit: int, timeout_s: float
    ) -> SearchResult:
        """Find the chunks of a codebase that are nearest to a query.

        A codebase with at most `exact_limit` vectors, or a space without HNSW index, is searched exactly; so is a
        codebase of which the index found fewer hits than asked for.

        Args:
            codebase_key: The codebase. One that does not exist has no hits.
            space_key: The space of `query_D`; vectors of others are not looked at.
            query_D: (2560,), float32, norm 1.
            limit: Hits at most, 1 to 500.
            timeout_s: Deadline, seconds; the server stops too when it passes.

        Raises:
            BadVector: The query has another shape, or is not finite, or zero.
            DeadlineExceeded: It took longer than `timeout_s`.
            DatabaseUnavailable: The server cannot be reached.
        """
        query = _query_vector(query_D)
        async with self._database.acquire(timeout_s) as connection, connection.transaction(readonly=True):
            await self._configure(connection, limit=limit, timeout_s=timeout_s)
            counts = await connection.fetchrow(_QUERIES["count_searchable"], codebase_key, space_key)
            if counts is None:
                raise RuntimeError("an aggregate gave no row")
            searched_chunk_count: int = counts["searched_chunk_count"]
            exact = searched_chunk_count <= self._exact_limit or not counts["has_hnsw_index"]
            records: list[asyncpg.Record] = []
            if not exact:
                await connection.execute(_QUERIES["prefer_hnsw"])
                records = await connection.fetch(_QUERIES["search_hnsw"], codebase_key, space_key, query, limit)
                exact = len(records) < min(limit, searched_chunk_count)
            if exact:
                records = await connection.fetch(_QUERIES["search_exact"], codebase_key, space_key, query, limit)
        return SearchResult(
            hits=tuple(_hit_row(record) for record in records),
            exact=exact,
            searched_chunk_count=searched_chunk_count,
            pending_chunk_count=counts["pending_chunk_count"],
        )

    async def _configure(self, connection: "Connection", *, limit: int, timeout_s: float) -> None:
        ef_search = min(max(2 * limit, _MINIMUM_EF_SEARCH), _MAXIMUM_EF_SEARCH)
        timeout_ms = max(1, round(timeout_s * 1000))
        await connection.execute(_QUERIES["configure_search"], str(timeout_ms), str(ef_search), str(_MAX_SCAN_TUPLES))


def _query_vector(query_D: NDArray[np.float32]) -> HalfVector:
    if query_D.shape != (DIMENSION,):
        raise BadVector(f"a query of shape {query_D.shape}, not ({DIMENSION},)")
    norm = float(np.linalg.norm(query_D))
    if not np.isfinite(norm) or norm == 0:
        raise BadVector(f"a query of norm {norm}")
    return HalfVector(query_D.astype(np.float16))


def _hit_row(record: asyncpg.Record) -> HitRow:
    chunk = ChunkRow(
        path=record["path"],
        language=record["language"],
        symbol=record["symbol"],
        kind=record["kind"],
        start_line=record["start_line"],
        end_line=record["end_line"],
        content=record["content"],
        text_sha256=record["content_sha256"],
        file_sha256=record["file_sha256"],
        ordinal=record["ordinal"],
        file_chunk_count=record["file_chunk_count"],
    )
    return HitRow(chunk_id=record["chunk_id"], chunk=chunk, score=record["score"])
