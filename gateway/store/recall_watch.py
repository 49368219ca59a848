"""The recall watch: how much of what exact search finds the index finds, and what searches must do for more of it."""

import asyncio
import logging
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from gateway.errors import DeadlineExceeded, NotFound
from gateway.store.pool import Database
from gateway.store.queries import load_queries
from gateway.store.rows import SearchQuery
from gateway.store.search import SearchStore
from gateway.store.search_plan import EF_STEPS, EXACT_LIMIT, MIN_POOL, Counts, Method, Plan, asks_index, index_plan

logger = logging.getLogger(__name__)

_QUERIES = load_queries("recall.sql")
K = 10
"""Hits that are compared."""
QUERIES = 20
"""Queries of a check: those that the codebase was searched with, up to half, and stored vectors."""
_LEAST_QUERIES = 5
# Of one check, for each way of asking: a codebase of a million vectors takes seconds a query.
_MAX_WORK_S = 60.0
_QUERY_TIMEOUT_S = 30.0
_CHECK_TIMEOUT_S = 6 * 3600.0
# Similarities that differ by less are ties; which of two copies comes first is not recall.
_TIE = 1e-6


@dataclass(frozen=True, slots=True)
class RecallCheck:
    """What a check found.

    Attributes:
        method: The index that was asked.
        ef: Candidates that its scans kept in the end, of which the recall is.
        least_ef: Candidates that searches must keep from now on; 0 where the usual number is enough.
        index_suffices: False where no number reaches the target: up to `FALLBACK_LIMIT` vectors are then compared.
        mean_recall: Mean recall@10, 0 to 1.
        minimum_recall: That of the worst query.
    """

    method: Method
    ef: int
    least_ef: int
    index_suffices: bool
    query_count: int
    mean_recall: float
    minimum_recall: float
    target_recall: float
    vector_count: int


@dataclass(frozen=True, slots=True)
class StoredCheck:
    """A check of a codebase, and when it was."""

    codebase_id: str
    check_time: datetime
    check: RecallCheck


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """A query: (2560,) float32, and the chunk that it is the vector of, or None."""

    vector_D: NDArray[np.float32]
    chunk_id: int | None


class RecallStore:
    """What the watch found."""

    def __init__(self, database: Database) -> None:
        """Use `database` for every call; a caller sees the codebases that it may read."""
        self._database = database

    async def list(self, space_key: int, *, timeout_s: float) -> list[StoredCheck]:
        """List the last check of each codebase in a space, by codebase."""
        async with self._database.acquire(timeout_s) as connection:
            records = await connection.fetch(_QUERIES["list_checks"], space_key)
        checks = []
        for record in records:
            values = dict(record)
            codebase_id, check_time = values.pop("codebase_id"), values.pop("check_time")
            check = RecallCheck(**values | {"method": Method(values["method"])})
            checks.append(StoredCheck(codebase_id, check_time, check))
        return checks


class RecallWatch:
    """Checks the codebases of a space that are searched by its index, and keeps what searches must do.

    A check measures the usual number of candidates, then more of them until the target is reached, so that what was
    raised comes down again when the index got better.
    """

    def __init__(
        self,
        database: Database,
        *,
        target: float,
        period_s: float,
        duty: float = 0.05,
        exact_limit: int = EXACT_LIMIT,
    ) -> None:
        """Watch as the system.

        Args:
            database: As the system.
            target: Mean recall@10 that searches are to have.
            period_s: How often a codebase is checked, seconds.
            duty: Share of the time in which a query of the watch may run.
            exact_limit: Vectors of a codebase that are compared whole anyway.
        """
        self._database = database
        self._search = SearchStore(database)
        self._target = target
        self._period_s = period_s
        self._duty = duty
        self._exact_limit = exact_limit

    async def check_due(self, space_key: int) -> list[int]:
        """Check the codebases that are due, one after the other, unless another gateway is about it.

        Returns:
            The keys of those that were checked.
        """
        checked: list[int] = []
        async with self._lock() as taken:
            if not taken:
                return checked
            indexes = await self._search.get_indexes(space_key, timeout_s=_QUERY_TIMEOUT_S)
            if not (indexes.has_hnsw or indexes.has_binary):
                return checked
            method = index_plan(indexes, pool=MIN_POOL).method
            async with self._database.acquire(_QUERY_TIMEOUT_S) as connection:
                due = await connection.fetch(
                    _QUERIES["list_due"], space_key, self._exact_limit, timedelta(seconds=self._period_s), method
                )
            for record in due:
                counts = replace(indexes, searched=record["vector_count"])
                if not asks_index(counts, exact_limit=self._exact_limit):
                    continue
                try:
                    check = await self._check(space_key, record["codebase_key"], counts)
                    if check is not None:
                        await self._store(space_key, record["codebase_key"], check)
                        checked.append(record["codebase_key"])
                except DeadlineExceeded:
                    logger.warning("the recall of codebase %s takes too long to measure", record["codebase_key"])
                except NotFound:
                    continue  # deleted meanwhile
        return checked

    async def _check(self, space_key: int, codebase_key: int, counts: Counts) -> RecallCheck | None:
        """Measure; None where too few queries could be asked in time."""
        samples = await self._sample(space_key, codebase_key)
        exact = await self._ask(space_key, codebase_key, samples, Plan(Method.EXACT, 0))
        if len(exact) < _LEAST_QUERIES:
            logger.warning("the recall of codebase %s takes too long to measure", codebase_key)
            return None
        samples = samples[: len(exact)]
        check: RecallCheck | None = None
        usual = index_plan(counts, pool=MIN_POOL)
        for least_ef in (0, *(ef for ef in EF_STEPS[usual.method] if ef > usual.ef)):
            plan = index_plan(replace(counts, least_ef=least_ef), pool=MIN_POOL)
            found = await self._ask(space_key, codebase_key, samples, plan)
            recalls = [recall(truth, hits) for truth, hits in zip(exact, found, strict=False)]
            mean = statistics.fmean(recalls)
            check = RecallCheck(
                method=plan.method,
                ef=plan.ef,
                least_ef=least_ef,
                index_suffices=mean >= self._target,
                query_count=len(recalls),
                mean_recall=mean,
                # The mean of equal numbers may come out below them.
                minimum_recall=min(*recalls, mean),
                target_recall=self._target,
                vector_count=counts.searched,
            )
            if check.index_suffices:
                break
        return check

    async def _sample(self, space_key: int, codebase_key: int) -> list[_Sample]:
        async with self._database.acquire(_QUERY_TIMEOUT_S) as connection:
            asked = await connection.fetch(_QUERIES["sample_queries"], space_key, codebase_key, QUERIES // 2)
            stored = await connection.fetch(_QUERIES["sample_vectors"], space_key, codebase_key, QUERIES - len(asked))
        samples = [_Sample(record["query_vector"].to_numpy().astype(np.float32), None) for record in asked]
        samples += [_Sample(record["embedding"].to_numpy().astype(np.float32), record["chunk_id"]) for record in stored]
        # Mixed, for a check that has no time for all.
        return samples[::2] + samples[1::2]

    async def _ask(
        self, space_key: int, codebase_key: int, samples: Sequence[_Sample], plan: Plan
    ) -> list[list[float]]:
        """The similarities of the best `K` chunks, for each sample that there is time for."""
        answers: list[list[float]] = []
        work_s = 0.0
        for sample in samples:
            query = SearchQuery(sample.vector_D, limit=K, excluded_chunk_id=sample.chunk_id)
            started = time.monotonic()
            hits = await self._search.rank_by(codebase_key, space_key, query, plan, timeout_s=_QUERY_TIMEOUT_S)
            elapsed_s = time.monotonic() - started
            answers.append([hit.similarity for hit in hits])
            work_s += elapsed_s
            if work_s > _MAX_WORK_S:
                break
            await asyncio.sleep(elapsed_s * (1 / self._duty - 1))
        return answers

    async def _store(self, space_key: int, codebase_key: int, check: RecallCheck) -> None:
        async with self._database.acquire(_QUERY_TIMEOUT_S) as connection:
            await connection.execute(
                _QUERIES["store_check"],
                space_key,
                codebase_key,
                check.method,
                check.ef,
                check.least_ef,
                check.index_suffices,
                check.query_count,
                check.mean_recall,
                check.minimum_recall,
                check.target_recall,
                check.vector_count,
            )
        (logger.info if check.index_suffices and not check.least_ef else logger.warning)(
            "recall@%d of codebase %s by %s: mean %.3f, least %.2f at ef %d; %s",
            K,
            codebase_key,
            check.method,
            check.mean_recall,
            check.minimum_recall,
            check.ef,
            "as it should be" if check.index_suffices else f"below {check.target_recall:g} whatever the ef",
        )

    @asynccontextmanager
    async def _lock(self) -> AsyncIterator[bool]:
        """One gateway at a time; the database frees the lock when the connection ends, however that happens."""
        async with self._database.acquire(_CHECK_TIMEOUT_S, autocommit=True) as connection:
            taken: bool = await connection.fetchval(_QUERIES["try_lock_watch"])
            try:
                yield taken
            finally:
                if taken:
                    await connection.execute(_QUERIES["unlock_watch"])


def recall(truth: Sequence[float], found: Sequence[float]) -> float:
    """Recall@k by similarity: the share of the best hits that were found, whichever of several equal ones they are.

    Args:
        truth: Similarities of the best k, best first.
        found: Those of the hits, at most as many.
    """
    if not truth:
        return 1.0
    least = truth[-1] - _TIE
    return min(sum(similarity >= least for similarity in found), len(truth)) / len(truth)
