"""The audit log, which the database writes by itself (migration 0010): reading it, and its retention."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gateway.store.pool import Database
from gateway.store.principals import require_admin
from gateway.store.queries import load_queries
from gateway.store.retention import Keeper

_QUERIES = load_queries("audit.sql")


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which events: those that match whatever is set.

    Attributes:
        principal_id: Who made the change; "" for anybody.
        about: A part of the subject between its slashes; "" for any.
        action: What was done; "" for anything.
        begin_time: The first moment.
        end_time: The moment after the last.
    """

    principal_id: str = ""
    about: str = ""
    action: str = ""
    begin_time: datetime | None = None
    end_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One change, as AuditEvent in protos/duovec/v1/audit_service.proto says."""

    audit_key: int
    create_time: datetime
    principal_id: str
    key_id: str
    peer: str
    action: str
    subject: str
    details: dict[str, Any]


class AuditLog:
    """Reads the log, for administrators."""

    def __init__(self, database: Database) -> None:
        """Use `database` for every call."""
        self._database = database

    async def list(self, found_by: AuditFilter, before: int | None, limit: int, *, timeout_s: float) -> list[AuditRow]:
        """List events, newest first.

        Args:
            found_by: Which.
            before: The key of the last event of the page before; None for the first page.
            limit: Rows at most.
            timeout_s: Deadline, seconds.

        Raises:
            AdminRequired: The caller is no administrator.
        """
        async with self._database.acquire(timeout_s) as connection:
            await require_admin(connection)
            records = await connection.fetch(
                _QUERIES["list_events"],
                found_by.principal_id,
                found_by.about,
                found_by.action,
                found_by.begin_time,
                found_by.end_time,
                before,
                limit,
            )
        return [AuditRow(**{**record, "details": json.loads(record["details"])}) for record in records]


class AuditKeeper(Keeper):
    """Deletes events once they are older than the retention period."""

    def __init__(self, database: Database, *, retention: timedelta) -> None:
        """Use `database`, as the system: no request may delete an event."""
        super().__init__(
            database, delete=_QUERIES["delete_expired"], retention=retention, what="events of the audit log"
        )
