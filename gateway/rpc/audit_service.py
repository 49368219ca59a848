"""AuditService: who changed what."""

import re
from datetime import UTC, datetime
from typing import Any

import grpc
from google.protobuf.struct_pb2 import Struct

from duovec.v1 import audit_service_pb2 as pb
from duovec.v1 import audit_service_pb2_grpc as pb_grpc
from gateway.errors import InvalidInput
from gateway.rpc import paging, validation
from gateway.rpc.timestamps import timestamp
from gateway.store.audit import AuditFilter, AuditLog, AuditRow

Context = grpc.aio.ServicerContext[Any, Any]

_ACTION = re.compile(r"[A-Z]+(_[A-Z]+)*")
_ABOUT = re.compile(r"[a-z0-9-]{1,64}")
_KEY = re.compile(r"[0-9]{1,18}")


class AuditServicer(pb_grpc.AuditServiceServicer):
    """Translates between the protos and the log, which checks what the caller may see."""

    def __init__(self, log: AuditLog, *, timeout_s: float) -> None:
        """Args: timeout_s: Budget of a call, seconds."""
        self._log = log
        self._timeout_s = timeout_s

    async def ListAuditEvents(  # noqa: N802
        self, request: pb.ListAuditEventsRequest, context: Context
    ) -> pb.ListAuditEventsResponse:
        """List the events of the audit log, newest first."""
        page_size = validation.page_size(request.page_size, default=100, limit=1000)
        rows = await self._log.list(
            AuditFilter(
                principal_id=validation.slug("principal_id", request.principal_id) if request.principal_id else "",
                about=_of_form("about", request.about, _ABOUT, "an id or a fingerprint"),
                action=_of_form("action", request.action, _ACTION, "one such as GRANT_SET"),
                begin_time=_time(request, "begin_time"),
                end_time=_time(request, "end_time"),
            ),
            _before(paging.decode_for(request, 1)),
            page_size + 1,
            timeout_s=self._timeout_s,
        )
        more, rows = len(rows) > page_size, rows[:page_size]
        return pb.ListAuditEventsResponse(
            events=[_event(row) for row in rows],
            next_page_token=paging.encode_for(request, str(rows[-1].audit_key)) if more else "",
        )


def _of_form(field: str, value: str, form: re.Pattern[str], what: str) -> str:
    if value and not form.fullmatch(value):
        raise InvalidInput(field, f"is {value[:80]!r}; send {what}, or nothing")
    return value


def _time(request: pb.ListAuditEventsRequest, field: str) -> datetime | None:
    if not request.HasField(field):
        return None
    try:
        time: datetime = getattr(request, field).ToDatetime(UTC)
    except (ValueError, OverflowError) as exc:
        raise InvalidInput(field, "is not a time between the years 1 and 9999") from exc
    return time


def _before(key: list[str] | None) -> int | None:
    if key is None:
        return None
    if not _KEY.fullmatch(key[0]):
        raise paging.foreign_token()
    return int(key[0])


def _event(row: AuditRow) -> pb.AuditEvent:
    details = Struct()
    details.update(row.details)
    return pb.AuditEvent(
        event_id=row.audit_key,
        create_time=timestamp(row.create_time),
        principal_id=row.principal_id,
        key_id=row.key_id,
        peer=row.peer,
        action=row.action,
        subject=row.subject,
        details=details,
    )
