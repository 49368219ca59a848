"""Training: runs that are queued for workers, and schedules that queue them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from gateway.errors import TrainingRunEnded, TrainingRunNotFound, TrainingScheduleNotFound
from gateway.store.pool import Database
from gateway.store.principals import require_admin
from gateway.store.queries import load_queries

if TYPE_CHECKING:
    import asyncpg

_QUERIES = load_queries("training.sql")


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """What to train: the columns that runs and schedules share; None leaves a choice to the recipe."""

    recipe: str
    encoder: str
    codebase_ids: tuple[str, ...]
    seed: int | None
    device: str
    precision: str | None
    publish: bool

    @property
    def columns(self) -> tuple[object, ...]:
        """In the order of the queries."""
        return (
            self.recipe,
            self.encoder,
            list(self.codebase_ids),
            self.seed,
            self.device,
            self.precision,
            self.publish,
        )

    @classmethod
    def of(cls, record: "asyncpg.Record") -> Self:
        """From a row of either table."""
        return cls(
            recipe=record["recipe"],
            encoder=record["encoder"],
            codebase_ids=tuple(record["codebase_ids"]),
            seed=record["seed"],
            device=record["device"],
            precision=record["precision"],
            publish=record["publish"],
        )


@dataclass(frozen=True, slots=True)
class TrainingRunRow:
    """A row of training_runs; the states and stages are those of the table."""

    run_id: int
    spec: TrainingSpec
    principal_id: str
    schedule_id: int | None
    state: str
    stage: str | None
    cancel_requested: bool
    attempt: int
    worker: str | None
    step: int
    step_count: int
    loss: float | None
    tokens_per_s: float | None
    error_reason: str | None
    error: str | None
    lineage: dict[str, Any]
    metrics: dict[str, Any] | None
    space: str | None
    create_time: datetime
    start_time: datetime | None
    finish_time: datetime | None


@dataclass(frozen=True, slots=True)
class TrainingScheduleRow:
    """A row of training_schedules."""

    schedule_id: int
    spec: TrainingSpec
    min_feedback_count: int
    principal_id: str
    create_time: datetime


class TrainingStore:
    """Queues, shows and cancels, for administrators; every method raises AdminRequired for others."""

    def __init__(self, database: Database) -> None:
        """Args: database: As the caller."""
        self._database = database

    async def start(self, spec: TrainingSpec, *, timeout_s: float) -> TrainingRunRow:
        """Queue a run."""
        async with self._database.acquire(timeout_s) as connection:
            caller = await require_admin(connection)
            record = await connection.fetchrow(_QUERIES["start_run"], *spec.columns, caller.principal_id)
        return _run(record)

    async def get(self, run_id: int, *, timeout_s: float) -> TrainingRunRow:
        """Get a run.

        Raises:
            TrainingRunNotFound: There is none of this id.
        """
        async with self._database.acquire(timeout_s) as connection:
            await require_admin(connection)
            return _run(await connection.fetchrow(_QUERIES["get_run"], run_id), run_id)

    async def list(self, before: int, limit: int, *, timeout_s: float) -> list[TrainingRunRow]:
        """List runs of lower ids than `before`, newest first."""
        async with self._database.acquire(timeout_s) as connection:
            await require_admin(connection)
            return [_run(record) for record in await connection.fetch(_QUERIES["list_runs"], before, limit)]

    async def cancel(self, run_id: int, *, timeout_s: float) -> TrainingRunRow:
        """Cancel a run; one that was begun is cancelled by a worker. A cancelled one stays so.

        Raises:
            TrainingRunNotFound: There is none of this id.
            TrainingRunEnded: It succeeded or failed.
        """
        async with self._database.acquire(timeout_s) as connection:
            await require_admin(connection)
            await connection.fetchval(_QUERIES["cancel_run"], run_id)
            row = _run(await connection.fetchrow(_QUERIES["get_run"], run_id), run_id)
        if row.state in ("SUCCEEDED", "FAILED"):
            raise TrainingRunEnded(f"training run {run_id} has {row.state}; there is nothing to cancel")
        return row

    async def create_schedule(
        self, spec: TrainingSpec, min_feedback_count: int, *, timeout_s: float
    ) -> TrainingScheduleRow:
        """Add a schedule."""
        async with self._database.acquire(timeout_s) as connection:
            caller = await require_admin(connection)
            record = await connection.fetchrow(
                _QUERIES["create_schedule"], *spec.columns, caller.principal_id, min_feedback_count
            )
        if record is None:
            raise RuntimeError("INSERT ... RETURNING gave no row")
        return _schedule(record)

    async def list_schedules(self, after: int, limit: int, *, timeout_s: float) -> Sequence[TrainingScheduleRow]:
        """List schedules of higher ids than `after`, by id."""
        async with self._database.acquire(timeout_s) as connection:
            await require_admin(connection)
            records = await connection.fetch(_QUERIES["list_schedules"], after, limit)
        return [_schedule(record) for record in records]

    async def delete_schedule(self, schedule_id: int, *, timeout_s: float) -> None:
        """Delete a schedule; its runs stay.

        Raises:
            TrainingScheduleNotFound: There is none of this id.
        """
        async with self._database.acquire(timeout_s) as connection:
            await require_admin(connection)
            if await connection.fetchval(_QUERIES["delete_schedule"], schedule_id) is None:
                raise TrainingScheduleNotFound(f"training schedule {schedule_id} does not exist")


def _run(record: "asyncpg.Record | None", run_id: int = 0) -> TrainingRunRow:
    if record is None:
        raise TrainingRunNotFound(f"training run {run_id} does not exist")
    values = {name: record[name] for name in TrainingRunRow.__slots__ if name not in ("spec", "lineage", "metrics")}
    metrics = record["metrics"]
    return TrainingRunRow(
        spec=TrainingSpec.of(record),
        lineage=json.loads(record["lineage"]),
        metrics=None if metrics is None else json.loads(metrics),
        **values,
    )


def _schedule(record: "asyncpg.Record") -> TrainingScheduleRow:
    return TrainingScheduleRow(
        schedule_id=record["schedule_id"],
        spec=TrainingSpec.of(record),
        min_feedback_count=record["min_feedback_count"],
        principal_id=record["principal_id"],
        create_time=record["create_time"],
    )
