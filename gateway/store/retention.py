"""Deleting what is older than its retention period, hour by hour."""

import asyncio
import logging
from datetime import timedelta

from gateway.errors import DuovecError
from gateway.store.pool import Database

logger = logging.getLogger(__name__)

_INTERVAL_S = 3600.0
_BATCH = 1000
_TIMEOUT_S = 60.0


class Keeper:
    """Deletes rows of one kind once they are older than their retention period."""

    def __init__(self, database: Database, *, delete: str, retention: timedelta, what: str) -> None:
        """Use `database`, as the system.

        Args:
            delete: SQL that deletes up to $2 rows older than the interval $1, by the clock of the database, which all
                gateways share, and returns one row for each.
            retention: How long rows are kept.
            what: Their name in the log.
        """
        self._database = database
        self._delete = delete
        self._retention = retention
        self._what = what

    async def run(self) -> None:
        """Delete what has expired now and every hour; several gateways on a database do no harm."""
        what = f"{self._what} older than {self._retention.days} days"
        while True:
            try:
                if count := await self.delete_expired():
                    logger.info("deleted %d %s", count, what)
            except DuovecError as exc:
                logger.warning("%s were not deleted: %s", what, exc)
            except Exception:  # it must not end the task, which nobody waits for before the shutdown
                logger.exception("%s were not deleted", what)
            await asyncio.sleep(_INTERVAL_S)

    async def delete_expired(self) -> int:
        """Delete what is older than the retention period, in transactions of 1,000.

        Returns:
            How many rows were deleted.
        """
        total = 0
        while True:
            async with self._database.acquire(_TIMEOUT_S) as connection:
                deleted = await connection.fetch(self._delete, self._retention, _BATCH)
            total += len(deleted)
            if len(deleted) < _BATCH:
                return total
