"""Deleting what is older than its retention period, hour by hour."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.errors import DuovecError

logger = logging.getLogger(__name__)

_INTERVAL_S = 3600.0


async def delete_every_hour(delete_expired: Callable[[], Awaitable[int]], *, what: str) -> None:
    """Delete what has expired now and every hour; several gateways on a database do no harm.

    Args:
        delete_expired: Deletes, and says how many there were.
        what: Their name in the log.
    """
    while True:
        try:
            if count := await delete_expired():
                logger.info("deleted %d %s", count, what)
        except DuovecError as exc:
            logger.warning("%s were not deleted: %s", what, exc)
        except Exception:  # it must not end the task, which nobody waits for before the shutdown
            logger.exception("%s were not deleted", what)
        await asyncio.sleep(_INTERVAL_S)
