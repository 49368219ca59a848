"""Search: the chunks of codebases by the similarity of vectors, and by words."""

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import asyncpg
import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector

from gateway.errors import BadVector, ChunkNotFound
from gateway.store.codebases import not_found
from gateway.store.named_parameters import bind
from gateway.store.pool import Database
from gateway.store.rows import DIMENSION, ChunkRow, HitRow, RevisionRow, SearchQuery, SearchResult
from gateway.store.search_plan import EXACT_LIMIT, Counts, Method, Plan, choose_plan, may_fall_back, most_compared
from gateway.store.search_statements import (
    QUERIES,
    configure_statement,
    count_statement,
    find_statement,
    rank_statement,
)
from gateway.store.search_words import NO_WORDS, PART_WEIGHTS, WordQuery, choose_words
from gateway.store.spaces import another_is_active

if TYPE_CHECKING:
    from gateway.store.pool import Connection

# How many vectors, of any codebase, an HNSW scan visits before it gives up; pgvector's 20,000 finds too few hits of
# a codebase that is a hundredth of its space.
_MAX_SCAN_TUPLES = 100_000
# How long the counts of codebases too large for exact search are kept: counting a million takes longer than searching.
_COUNTS_MAX_AGE_S = 10.0
_MAX_REMEMBERED = 1024
_COMPARE_ALL = Plan(Method.EXACT, 0)
_BEFORE_ALL = (float("inf"), 0)


class SearchStore:
    """Finds chunks near a vector."""

    def __init__(self, database: Database, *, exact_limit: int = EXACT_LIMIT) -> None:
        """Use `database` for every call; up to `exact_limit` vectors are searched exactly."""
        self._database = database
        self._exact_limit = exact_limit
        self._counts: OrderedDict[tuple[int, ...], tuple[float, int, int]] = OrderedDict()
        # Whether and how an index was asked the last time: the next transaction begins configured for it.
        self._plans: OrderedDict[tuple[int, tuple[str, ...]], Plan] = OrderedDict()

    async def search(
        self,
        codebase_ids: Sequence[str],
        space_key: int,
        query: SearchQuery,
        *,
        timeout_s: float,
        only_if_active: bool = True,
    ) -> SearchResult:
        """Find the chunks of codebases that are most similar to a query.

        Whatever `search_plan` decides to compare whole is compared whole; elsewhere an index gives the candidates,
        which are ranked at full precision together with those that have the best words.

        Args:
            codebase_ids: The codebases.
            space_key: The space of the query's vector; vectors of others are not looked at.
            query: What to look for, and which page.
            timeout_s: Deadline, seconds; the server stops too when it passes.
            only_if_active: Whether another space than the active one is refused; it may lack vectors.

        Raises:
            NotFound: There is no codebase of one of the ids, or the caller may not see it; names the first.
            SpaceMismatch: Another space is the active one by now.
            BadVector: The query's vector has another shape, or is not finite, or zero.
            DeadlineExceeded: It took longer than `timeout_s`.
            DatabaseUnavailable: The server cannot be reached.
        """
        values = _values(space_key, query)
        # What passes a filter is counted first, which may well be a matter of reading all.
        restricts, plan_key = query.filter.restricts, (space_key, tuple(codebase_ids))
        settings = _settings(_COMPARE_ALL if restricts else self._plans.get(plan_key, _COMPARE_ALL), timeout_s)
        async with self._database.acquire(timeout_s) as connection:
            known = await _find_searched(connection, codebase_ids, space_key, settings, query)
            if only_if_active and known.active_space_key != space_key:
                raise another_is_active(space_key)
            # What has no policies of its own, words and remembered counts, is asked for these alone.
            values["codebase_keys"] = list(known.codebase_ids)
            searched, pending = await self._count(connection, values["codebase_keys"], space_key)
            counts = replace(known.counts, searched=searched)
            plan = self._choose(counts, query)
            if restricts and plan.method is not Method.EXACT:
                most = most_compared(plan, counts, exact_limit=self._exact_limit)
                counts = replace(counts, matching=await _count_matching(connection, values, limit=most + 1))
                plan = self._choose(counts, query)
            if not restricts:
                self._remember_plan(plan_key, plan)
            if _settings(plan, timeout_s) != settings:
                await _configure(connection, plan, timeout_s)
            records = await self._rank(connection, plan, query, known.words, values | {"searched": searched})
            if _too_few(records, plan, counts, query) and may_fall_back(counts):
                plan = Plan(Method.EXACT, query.pool or 0)
                await _configure(connection, plan, timeout_s)
                records = await self._rank(connection, plan, query, known.words, values | {"searched": searched})
        hits = [record for record in records if record["score"] is not None]
        return SearchResult(
            hits=tuple(_hit_row(record) for record in hits[: query.limit]),
            codebase_ids=known.codebase_ids,
            revisions=known.revisions,
            method=plan.method,
            pool=plan.pool,
            word_weights=dict(zip(known.words.words, records[0]["word_weights"] or (), strict=True)),
            has_more=len(hits) > query.limit,
            candidates_exhausted=_too_few(records, plan, counts, query) or _continues_index(plan, query),
            candidate_count=records[0]["candidate_count"],
            searched_chunk_count=searched,
            pending_chunk_count=pending,
        )

    async def rank_by(
        self, codebase_key: int, space_key: int, query: SearchQuery, plan: Plan, *, timeout_s: float
    ) -> tuple[HitRow, ...]:
        """Find the chunks of one codebase by vectors alone, by a given plan: what `search` does once it has chosen one.

        Raises:
            As `search`.
        """
        values = _values(space_key, query) | {"codebase_keys": [codebase_key], "searched": 0}
        async with self._database.acquire(timeout_s) as connection:
            await _configure(connection, plan, timeout_s)
            records = await self._rank(connection, plan, query, NO_WORDS, values)
        return tuple(_hit_row(record) for record in records[: query.limit] if record["score"] is not None)

    async def get_indexes(self, space_key: int, *, timeout_s: float) -> Counts:
        """Get which indexes of a space are complete; the counts are those of no codebase."""
        async with self._database.acquire(timeout_s) as connection:
            return (await _find_searched(connection, [], space_key, _settings(_COMPARE_ALL, timeout_s))).counts

    async def get_vector(
        self, codebase_ids: Sequence[str], space_key: int, chunk_id: int, *, timeout_s: float
    ) -> NDArray[np.float32]:
        """Get the stored vector of a chunk, (2560,) float32.

        Raises:
            NotFound: There is no codebase of one of the ids, or the caller may not see it; names the first.
            ChunkNotFound: No chunk of the codebases has this id and a vector in the space.
        """
        async with self._database.acquire(timeout_s) as connection:
            known = await _find_searched(connection, codebase_ids, space_key, _settings(_COMPARE_ALL, timeout_s))
            vectors = await _get_vectors(connection, list(known.codebase_ids), space_key, [chunk_id])
        if not vectors:
            raise ChunkNotFound(f"chunk {chunk_id} is not among the chunks of these codebases that have a vector")
        return vectors[chunk_id]

    async def get_vectors(
        self, codebase_keys: Sequence[int], space_key: int, chunk_ids: Sequence[int], *, timeout_s: float
    ) -> dict[int, NDArray[np.float32]]:
        """Get the stored vectors of chunks, (2560,) float32 each, by chunk id; those that the codebases have."""
        async with self._database.acquire(timeout_s) as connection:
            return await _get_vectors(connection, codebase_keys, space_key, chunk_ids)

    async def _count(self, connection: "Connection", codebase_keys: Sequence[int], space_key: int) -> tuple[int, int]:
        """Count the codebases' chunks with and without vector; large counts are remembered for a while."""
        key = (space_key, *sorted(codebase_keys))
        known = self._counts.get(key)
        if known is not None and time.monotonic() - known[0] < _COUNTS_MAX_AGE_S:
            return known[1], known[2]
        [record] = await _fetch(
            connection, "count_searchable", {"codebase_keys": list(codebase_keys), "space_key": space_key}
        )
        searched, pending = record["searched_chunk_count"], record["pending_chunk_count"]
        self._counts.pop(key, None)
        if searched > self._exact_limit:
            self._counts[key] = (time.monotonic(), searched, pending)
            if len(self._counts) > _MAX_REMEMBERED:
                self._counts.popitem(last=False)
        return searched, pending

    def _remember_plan(self, key: tuple[int, tuple[str, ...]], plan: Plan) -> None:
        self._plans.pop(key, None)
        if plan.method is not Method.EXACT:
            self._plans[key] = plan
            if len(self._plans) > _MAX_REMEMBERED:
                self._plans.popitem(last=False)

    def _choose(self, counts: Counts, query: SearchQuery) -> Plan:
        return choose_plan(
            counts,
            page_size=query.limit,
            pool=query.pool,
            plain_weights=abs(query.scale - 1) < 1e-3,
            exact_limit=self._exact_limit,
        )

    async def _rank(
        self,
        connection: "Connection",
        plan: Plan,
        query: SearchQuery,
        words: WordQuery,
        values: dict[str, Any],
    ) -> list[asyncpg.Record]:
        sql = rank_statement(plan.method, filtered=query.filter.restricts, by_words=bool(words.words))
        return await _fetch_statement(
            connection,
            sql,
            values
            | {
                "pool": plan.pool,
                "words": list(words.words),
                "word_chunk_counts": list(words.chunk_counts),
                "word_weights": list(words.weights),
                "any_word": words.any_word,
                "part_weights": list(PART_WEIGHTS),
            },
        )


def _settings(plan: Plan, timeout_s: float) -> dict[str, str]:
    return {
        "timeout_ms": str(max(1, round(timeout_s * 1000))),
        "ef_search": str(plan.ef),
        "max_scan_tuples": str(_MAX_SCAN_TUPLES),
        "sort": "on" if plan.method is Method.EXACT else "off",
    }


async def _configure(connection: "Connection", plan: Plan, timeout_s: float) -> None:
    await _fetch_statement(connection, configure_statement(), _settings(plan, timeout_s))


async def _fetch(connection: "Connection", name: str, values: Mapping[str, Any]) -> list[asyncpg.Record]:
    return await _fetch_statement(connection, QUERIES[name], values)


async def _fetch_statement(connection: "Connection", sql: str, values: Mapping[str, Any]) -> list[asyncpg.Record]:
    statement, arguments = bind(sql, values)
    return await connection.fetch(statement, *arguments)


@dataclass(frozen=True, slots=True)
class _Searched:
    """What is known of the codebases and the space of a search; `counts` are those of no vector yet."""

    codebase_ids: dict[int, str]
    revisions: dict[int, RevisionRow]
    active_space_key: int | None
    counts: Counts
    words: WordQuery


async def _find_searched(
    connection: "Connection",
    codebase_ids: Sequence[str],
    space_key: int,
    settings: Mapping[str, str],
    query: SearchQuery | None = None,
) -> _Searched:
    text, first_weights = ("", None) if query is None else (query.words, query.word_weights)
    values = {**settings, "codebase_ids": list(codebase_ids), "space_key": space_key, "text": text}
    records = await _fetch_statement(connection, find_statement(by_words=bool(text)), values)
    found = {record["codebase_id"]: record for record in records if record["codebase_key"] is not None}
    for codebase_id in codebase_ids:
        if codebase_id not in found:
            raise not_found(codebase_id)
    ordered = [found[codebase_id] for codebase_id in codebase_ids]
    watched = [record for record in ordered if record["least_ef"] is not None]
    first = records[0]
    return _Searched(
        codebase_ids={record["codebase_key"]: record["codebase_id"] for record in ordered},
        revisions={record["codebase_key"]: _revision(record) for record in ordered if record["version"] is not None},
        active_space_key=first["active_space_key"],
        counts=Counts(
            0,
            None,
            in_space=first["in_space"] or 0,
            has_hnsw=first["has_hnsw"],
            has_binary=first["has_binary"],
            least_ef=max((record["least_ef"] for record in watched), default=0),
            index_suffices=all(record["index_suffices"] for record in watched),
        ),
        words=choose_words(list(zip(first["words"], first["word_chunk_counts"], strict=True)), first_weights),
    )


def _revision(record: asyncpg.Record) -> RevisionRow:
    return RevisionRow(**{field.name: record[field.name] for field in fields(RevisionRow)})


async def _count_matching(connection: "Connection", values: Mapping[str, Any], *, limit: int) -> int:
    """Count the chunks that pass the filter, up to a limit."""
    [record] = await _fetch_statement(connection, count_statement(), {**values, "limit": limit})
    count: int = record["count"]
    return count


async def _get_vectors(
    connection: "Connection", codebase_keys: Sequence[int], space_key: int, chunk_ids: Sequence[int]
) -> dict[int, NDArray[np.float32]]:
    values = {"codebase_keys": list(codebase_keys), "space_key": space_key, "chunk_ids": list(chunk_ids)}
    records = await _fetch(connection, "get_vectors", values)
    return {record["chunk_id"]: record["embedding"].to_numpy().astype(np.float32) for record in records}


def _values(space_key: int, query: SearchQuery) -> dict[str, Any]:
    after_score, after_chunk_id = query.after or _BEFORE_ALL
    return {
        "space_key": space_key,
        "query": _query_vector(query.vector_D),
        "scale": query.scale,
        "lexical_weight": query.lexical_weight,
        "languages": list(query.filter.languages),
        "kinds": list(query.filter.kinds),
        "path_regex": query.filter.path_regex,
        "path_from": query.filter.path_from,
        "path_below": query.filter.path_below,
        "excluded_chunk_id": query.excluded_chunk_id or 0,
        "min_score": -np.inf if query.min_score is None else query.min_score,
        "after_score": after_score,
        "after_chunk_id": after_chunk_id,
        # One more than the page shows whether there is another.
        "limit": query.limit + 1,
    }


def _too_few(records: Sequence[asyncpg.Record], plan: Plan, counts: Counts, query: SearchQuery) -> bool:
    """Whether an index gave fewer hits, or candidates, than were asked for although there are more chunks."""
    if plan.method is Method.EXACT or records[0]["candidate_count"] >= counts.compared:
        return False
    # Signs rank coarsely: of few candidates the best are not the best there are, and a full page tells nothing.
    if plan.method is Method.BINARY and records[0]["nearest_count"] < min(plan.pool, counts.compared):
        return True
    hit_count = sum(record["score"] is not None for record in records)
    if hit_count > query.limit:
        return False
    least: float | None = records[0]["least_similarity"]
    # What HNSW did not give is less similar than what it gave, and has at most every word; signs rank too coarsely.
    if query.min_score is None or least is None or plan.method is Method.BINARY:
        return True
    return (1 - query.lexical_weight) * least + query.lexical_weight >= query.min_score


def _continues_index(plan: Plan, query: SearchQuery) -> bool:
    """Whether an index gave pages before this one: what it missed there is above the cut, and on no page."""
    return plan.method is Method.EXACT and query.after is not None and bool(query.pool)


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
    return HitRow(
        chunk_id=record["chunk_id"],
        codebase_key=record["codebase_key"],
        chunk=chunk,
        score=record["score"],
        similarity=record["similarity"],
        lexical_score=record["lexical_score"],
    )
