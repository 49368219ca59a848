"""How good search was, by codebase, space and week: what callers did with the hits, and whether queries change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import numpy as np

from gateway.store.codebases import require_role
from gateway.store.named_parameters import bind
from gateway.store.pool import Database
from gateway.store.queries import load_queries
from gateway.store.query_drift import VectorSum, drift

if TYPE_CHECKING:
    from gateway.store.pool import Connection

REFERENCE_WEEKS = 4
"""Weeks before a week that its queries are compared with."""

DRIFT_SAMPLE = 1000
"""Queries of a week that are compared at most: 100,000 would take seconds, and tell no more."""

_WEEK = timedelta(weeks=1)
# Of the row that stands for all codebases together.
_ALL = 0
_FIRST = ("", "", datetime(1970, 1, 1, tzinfo=UTC))

_QUERIES = load_queries("quality.sql")

Place = tuple[str, str, datetime]
"""Codebase id, space and week of a row: its place in the order of rows."""
_Key = tuple[int, str, datetime]


@dataclass(frozen=True, slots=True)
class QualityRow:
    """Searches of one week in one space.

    Attributes:
        codebase_id: The codebase; empty for all codebases together.
        space: Fingerprint of the space.
        week: Its Monday, 00:00 UTC.
        search_count: Searches that count: those that showed a hit of the codebase, or nothing at all.
        zero_hit_count: Those that showed nothing.
        judged_count: Those with feedback.
        click_through_at_1: Share of the searches of which a hit at rank 1 was opened or found useful (clicks at k of
            Radlinski, Kurup and Joachims, CIKM 2008). Ranks are those among the hits of the codebase.
        click_through_at_3: The same for ranks 1 to 3.
        click_through_at_10: The same for ranks 1 to 10.
        mrr: Mean of 1 / rank of the first hit whose grade is above 0, or 0 without one, over the searches with
            feedback (Voorhees, TREC-8, 1999). Grades are 2 for useful, 1 for opened, 0 for not useful. None without
            feedback.
        ndcg_at_10: Mean over the searches with feedback of the sum of grade / log2(rank + 1) to rank 10, divided by
            that of the best order of the graded hits; 0 without a grade above 0 (Järvelin and Kekäläinen, ACM TOIS
            20(4), 2002). None without feedback.
        query_drift: How far the week's queries are from those of the `REFERENCE_WEEKS` before
            (`gateway.store.query_drift`); None where either has fewer than two.
        drift_query_count: Queries of the week that were compared, a random sample where there are more than
            `DRIFT_SAMPLE`.
        drift_reference_count: Queries of the weeks before that they were compared with.
    """

    codebase_id: str
    space: str
    week: datetime
    search_count: int
    zero_hit_count: int
    judged_count: int
    click_through_at_1: float
    click_through_at_3: float
    click_through_at_10: float
    mrr: float | None
    ndcg_at_10: float | None
    query_drift: float | None
    drift_query_count: int
    drift_reference_count: int

    @property
    def place(self) -> Place:
        """Where the row stands in the order of rows."""
        return (self.codebase_id, self.space, self.week)


class QualityStore:
    """Measures from the log of searches and from feedback."""

    def __init__(self, database: Database, *, drift_sample: int = DRIFT_SAMPLE) -> None:
        """Use `database` for every call; of each week up to `drift_sample` queries are compared with the others."""
        self._database = database
        self._drift_sample = drift_sample

    async def list(
        self,
        *,
        codebase_id: str,
        space: str,
        week_count: int,
        after: Place | None,
        limit: int,
        timeout_s: float,
        now: datetime | None = None,
    ) -> list[QualityRow]:
        """List rows by codebase, space and week; weeks without a search have none.

        Args:
            codebase_id: Only this one. Empty for all that the caller owns; for administrators every codebase, and all
                together first.
            space: Only this fingerprint; empty for all.
            week_count: Weeks to look back, that of `now` included.
            after: Place of the last row of the page before; None for the first page.
            limit: Rows at most.
            timeout_s: Deadline, seconds.
            now: The end of the time; None for the present.

        Raises:
            NotFound: The codebase does not exist, or the caller may not see it.
            PermissionDenied: The caller does not own the codebase.
        """
        since = week_of(now or datetime.now(UTC)) - (week_count - 1) * _WEEK
        place = after or _FIRST
        async with self._database.acquire(timeout_s) as connection:
            if codebase_id:
                keys = [await require_role(connection, codebase_id, "OWNER")]
                together = False
            else:
                records = await connection.fetch(_QUERIES["list_codebase_keys"], place[0])
                keys = [record["codebase_key"] for record in records]
                together = place[0] == "" and await connection.fetchval(_QUERIES["is_admin"])
            values = {
                "codebase_keys": keys,
                "together": together,
                "since": since,
                "space": space,
                "after_codebase_id": place[0],
                "after_space": place[1],
                "after_week": place[2],
                "limit": limit,
            }
            records = await _fetch(connection, "list_quality", values)
            if not records:
                return []
            listed = {record["codebase_key"] for record in records}
            sums = await _fetch(
                connection,
                "sum_queries",
                {
                    "codebase_keys": sorted(listed - {_ALL}),
                    "together": _ALL in listed,
                    "space": space,
                    "since": since - REFERENCE_WEEKS * _WEEK,
                    "sample": self._drift_sample,
                },
            )
        return _rows(records, {_key(record): _vector_sum(record) for record in sums})


def week_of(time: datetime) -> datetime:
    """The Monday, 00:00 UTC, at or before a time."""
    day = time.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=day.weekday())


def _rows(records: Sequence[asyncpg.Record], sums: Mapping[_Key, VectorSum]) -> list[QualityRow]:
    rows = []
    for record in records:
        codebase_key, space, week = _key(record)
        here = sums.get((codebase_key, space, week), VectorSum.nothing())
        before = VectorSum.nothing()
        for back in range(1, REFERENCE_WEEKS + 1):
            before += sums.get((codebase_key, space, week - back * _WEEK), VectorSum.nothing())
        fields = {name: value for name, value in record.items() if name != "codebase_key"}
        rows.append(
            QualityRow(
                **fields,
                query_drift=drift(here, before),
                drift_query_count=here.count,
                drift_reference_count=before.count,
            )
        )
    return rows


def _key(record: asyncpg.Record) -> _Key:
    return record["codebase_key"], record["space"], record["week"]


def _vector_sum(record: asyncpg.Record) -> VectorSum:
    count = record["n"]
    return VectorSum(count, record["mean"].to_numpy().astype(np.float64) * count, record["squares"])


async def _fetch(connection: "Connection", name: str, values: Mapping[str, Any]) -> list[asyncpg.Record]:
    statement, arguments = bind(_QUERIES[name], values)
    return await connection.fetch(statement, *arguments)
