"""How many files and connections this process may have open, who may have them, and what is said when all are used."""

import asyncio
import errno
import logging
import resource
from typing import Any

from gateway.telemetry.line_budget import LineBudget

logger = logging.getLogger(__name__)

_DOORS = 4
"""HTTP, gRPC, gRPC's own address; the last part is for the database, Triton, the log and whatever else there is."""
_UNLIMITED = 2**20
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def raise_limit() -> None:
    """Take all that this process may have: a login shell and systemd begin with 1,024, and allow many more."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_a_door() -> int:
    """How many connections one listener may have, so that nobody who needs no key takes them from everything else."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (_UNLIMITED if limit == resource.RLIM_INFINITY else limit) // _DOORS


class ShortageTold:
    """A handler of asyncio's exceptions that tells of a lack of descriptors in a line a second.

    By itself asyncio writes a traceback for each connection that waits, and does so again a second later.
    """

    def __init__(self) -> None:
        """Nothing was told yet."""
        self._budget = LineBudget(1)

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """As `loop.set_exception_handler` takes it."""
        exc = context.get("exception")
        if not (isinstance(exc, OSError) and exc.errno in _EXHAUSTED):
            loop.default_exception_handler(context)
        elif (left_out := self._budget.take()) is not None:
            logger.error("%s: %s%s", context["message"], exc.strerror, left_out)
