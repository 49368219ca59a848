"""The queue in PostgreSQL: claims with a lease, and the attempt's number as the fence against whoever lost it."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from training.database import CONNECT_TIMEOUT_S, DatabaseAway, load_queries, translate_failures

_QUERIES = load_queries("training.worker", "queue.sql")
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class QueuedRun:
    """A run that was claimed: what was asked for, and the number of the claim.

    Attributes:
        lost_count: Claims whose lease was over before they ended.
        retry_count: Claims that were given back because something was away.
        database: Names the database among all others, so that its runs are not taken for those of another one.
    """

    run_id: int
    recipe: str
    encoder: str
    codebase_ids: tuple[str, ...]
    seed: int | None
    device: str
    precision: str | None
    publish: bool
    attempt: int
    cancel_requested: bool
    lost_count: int
    retry_count: int
    create_time: datetime
    database: str


@dataclass(frozen=True)
class Progress:
    """What a worker knows of its run; None leaves what is there."""

    stage: str | None = None
    step: int | None = None
    step_count: int | None = None
    loss: float | None = None
    tokens_per_s: float | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run ended: SUCCEEDED, FAILED with reason and error, or CANCELLED; and what is known of its result."""

    state: str
    error_reason: str | None = None
    error: str | None = None
    metrics: Mapping[str, Any] | None = None
    space: str | None = None


class RunQueue:
    """One connection, made again when it was lost. Every method raises DatabaseAway when there is none.

    A row that is not this attempt's any more is None or False, never written.
    """

    def __init__(self, url: str, worker: str, lease_s: float) -> None:
        """Args: url: The account that owns the tables. worker: Its name in the rows. lease_s: Seconds of a claim."""
        self._url = url
        self._worker = worker
        self._lease = timedelta(seconds=lease_s)
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def claim(self) -> QueuedRun | None:
        """Take the oldest run that nobody has and that need not wait any more."""
        row = await self._fetch("claim_run", self._worker, self._lease)
        if row is None:
            return None
        values = {name: row[name] for name in QueuedRun.__dataclass_fields__}
        return QueuedRun(**{**values, "codebase_ids": tuple(row["codebase_ids"])})

    async def has_queued(self) -> bool:
        """Whether any run is queued, be it for its next try."""
        row = await self._fetch("has_queued_run")
        return row is not None and bool(row["found"])

    async def keep(self, run: QueuedRun, progress: Progress, *, timeout_s: float = _TIMEOUT_S) -> bool | None:
        """Prolong the lease; gives whether the run is to be cancelled, or None when it is another worker's.

        The lease counts from the moment the database is asked at the earliest: who relies on it measures from before
        the call.
        """
        row = await self._fetch(
            "keep_run",
            run.run_id,
            run.attempt,
            self._lease,
            progress.stage,
            progress.step,
            progress.step_count,
            progress.loss,
            progress.tokens_per_s,
            timeout_s=timeout_s,
        )
        return None if row is None else bool(row["cancel_requested"])

    async def give_back(self, run: QueuedRun, *, delay_s: float = 0.0) -> bool:
        """Let another worker take the run, now or after so many seconds, which counts as a retry."""
        delay = timedelta(seconds=delay_s)
        return await self._fetch("give_back_run", run.run_id, run.attempt, delay) is not None

    async def has_open_publication(self, run: QueuedRun) -> bool:
        """Whether something may be published for a run that did not reach its end."""
        row = await self._fetch("has_open_publication", run.run_id)
        return row is not None and bool(row["found"])

    async def missing_codebases(self, codebase_ids: Sequence[str]) -> list[str]:
        """Those of some codebases that are there no more."""
        row = await self._fetch("missing_codebases", list(codebase_ids))
        return [] if row is None else list(row["codebase_ids"])

    async def ended(self, run_ids: Sequence[int]) -> set[int]:
        """Those of some runs that have ended, or whose record is gone."""
        row = await self._fetch("ended_runs", list(run_ids))
        return set() if row is None else set(row["run_ids"])

    async def end(self, run: QueuedRun, outcome: Outcome, lineage: Mapping[str, Any]) -> bool:
        """Record how the run ended."""
        metrics = None if outcome.metrics is None else json.dumps(outcome.metrics)
        row = await self._fetch(
            "end_run",
            run.run_id,
            run.attempt,
            outcome.state,
            outcome.error_reason,
            outcome.error,
            metrics,
            outcome.space,
            json.dumps(lineage),
        )
        return row is not None

    async def queue_due(self) -> int | None:
        """Queue the run of a schedule that is due; gives its number."""
        row = await self._fetch("queue_due_run")
        return None if row is None else int(row["run_id"])

    async def close(self) -> None:
        """Disconnect."""
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _fetch(self, name: str, *arguments: Any, timeout_s: float = _TIMEOUT_S) -> "asyncpg.Record | None":
        try:
            with translate_failures(self._url):
                async with asyncio.timeout(timeout_s):
                    if self._connection is None or self._connection.is_closed():
                        self._connection = await asyncpg.connect(self._url, timeout=CONNECT_TIMEOUT_S)
                    return await self._connection.fetchrow(_QUERIES[name], *arguments)
        except DatabaseAway:
            # One that hangs may go on hanging; the next call makes another.
            self._disconnect()
            raise
