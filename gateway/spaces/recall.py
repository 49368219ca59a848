"""Watches the recall of the active space's index, beside the service."""

import asyncio
import logging

from gateway.errors import DuovecError
from gateway.spaces.serving import Serving
from gateway.store.recall_watch import RecallWatch

logger = logging.getLogger(__name__)

# How often it is looked whether a check is due: soon after an index was built, and cheap beside a check.
_LOOK_S = 300.0


async def watch_recall(watch: RecallWatch, serving: Serving) -> None:
    """Check what is due again and again, until cancelled."""
    while True:
        await asyncio.sleep(_LOOK_S)
        try:
            await watch.check_due(serving.active.space_key)
        except DuovecError as exc:
            # Searches go on with what was found before; the next look tries again.
            logger.warning("recall was not checked: %s", exc)
        except Exception:  # it must not end the task, which nobody waits for before the shutdown
            logger.exception("recall was not checked")
