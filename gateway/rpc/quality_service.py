"""QualityService: how good search was."""

import re
from datetime import UTC, datetime
from typing import Any

import grpc

from duovec.v1 import quality_service_pb2 as pb
from duovec.v1 import quality_service_pb2_grpc as pb_grpc
from gateway.errors import InvalidInput
from gateway.rpc import paging, validation
from gateway.store.quality import Place, QualityRow, QualityStore

Context = grpc.aio.ServicerContext[Any, Any]

DEFAULT_WEEKS = 12
MAX_WEEKS = 520
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class QualityServicer(pb_grpc.QualityServiceServicer):
    """Translates between the protos and the store, which checks what the caller may see."""

    def __init__(self, quality: QualityStore, *, timeout_s: float) -> None:
        """Args: timeout_s: Budget of a call, seconds."""
        self._quality = quality
        self._timeout_s = timeout_s

    async def ListQuality(  # noqa: N802
        self, request: pb.ListQualityRequest, context: Context
    ) -> pb.ListQualityResponse:
        """List quality by codebase, space and week."""
        page_size = validation.page_size(request.page_size, default=100, limit=1000)
        rows = await self._quality.list(
            codebase_id=validation.codebase_id(request.codebase_id) if request.codebase_id else "",
            space=_space(request.space),
            week_count=_week_count(request.week_count),
            after=_place(paging.decode_for(request, 3)),
            limit=page_size + 1,
            timeout_s=self._timeout_s,
        )
        more, rows = len(rows) > page_size, rows[:page_size]
        last = rows[-1].place if more else None
        return pb.ListQualityResponse(
            rows=[_quality(row) for row in rows],
            next_page_token="" if last is None else paging.encode_for(request, last[0], last[1], last[2].isoformat()),
        )


def _space(value: str) -> str:
    if value and not _FINGERPRINT.fullmatch(value):
        raise InvalidInput("space", f"is {value[:80]!r}; send the 64 hex digits of a space's fingerprint, or nothing")
    return value


def _week_count(value: int) -> int:
    if not 0 <= value <= MAX_WEEKS:
        raise InvalidInput("week_count", f"is {value}; use 1 to {MAX_WEEKS}, or 0 for {DEFAULT_WEEKS}")
    return value or DEFAULT_WEEKS


def _place(key: list[str] | None) -> Place | None:
    if key is None:
        return None
    try:
        week = datetime.fromisoformat(key[2])
        if week.tzinfo is None:
            raise paging.foreign_token()
        # What is a time in its own zone only is none to PostgreSQL.
        return key[0], key[1], week.astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise paging.foreign_token() from exc


def _quality(row: QualityRow) -> pb.SearchQuality:
    quality = pb.SearchQuality(
        codebase_id=row.codebase_id,
        space=row.space,
        search_count=row.search_count,
        zero_hit_count=row.zero_hit_count,
        judged_count=row.judged_count,
        click_through_at_1=row.click_through_at_1,
        click_through_at_3=row.click_through_at_3,
        click_through_at_10=row.click_through_at_10,
        mrr=row.mrr,
        ndcg_at_10=row.ndcg_at_10,
        query_drift=row.query_drift,
        drift_query_count=row.drift_query_count,
        drift_reference_count=row.drift_reference_count,
    )
    quality.week_start.FromDatetime(row.week)
    return quality
