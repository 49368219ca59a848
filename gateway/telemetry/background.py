"""What must be asked for before it can be shown: how full the spaces are, how good recall is, what Triton did."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.embedding.fleet import TritonFleet
from gateway.errors import DuovecError
from gateway.spaces.serving import Serving
from gateway.store.pool import Database
from gateway.store.recall_watch import RecallStore
from gateway.store.search_plan import FALLBACK_LIMIT
from gateway.store.space_vectors import SpaceVectorStore
from gateway.store.spaces import SpaceStore
from gateway.telemetry.backend_totals import BackendTotals

logger = logging.getLogger(__name__)

_TIMEOUT_S = 60.0
_TRITON_PERIOD_S = 10.0
_TRITON_TIMEOUT_S = 2.0
_STORED_PERIOD_S = 60.0
# Counting the chunks of a million takes a second: the database is asked for one part in a hundred of its time.
_DUTY = 0.01


@dataclass(frozen=True, slots=True)
class SpaceCoverage:
    """How many chunks have their vector in a space."""

    fingerprint: str
    state: str
    chunk_count: int
    pending_chunk_count: int


@dataclass(frozen=True, slots=True)
class RecallSummary:
    """The last recall checks of the active space, all codebases together: their number has no bound.

    Attributes:
        counts: Codebases by how they are searched: `usual`, `further`, `whole`, or `below` the target.
        least_mean_recall: Mean recall@10 of the codebase that has the lowest; None without checks.
        least_recall: Recall@10 of the one query that was answered worst; None without checks.
        oldest_check_s: Age of the oldest check, seconds.
    """

    counts: dict[str, int]
    least_mean_recall: float | None
    least_recall: float | None
    oldest_check_s: float


class BackgroundFacts:
    """Asks now and then; what fails keeps what was known.

    Attributes:
        spaces: The spaces that are searched or filled.
        recall: None before it was first known.
        backends: What Triton did, for the encoders of the active space and of those before.
    """

    def __init__(self, triton: TritonFleet, system: Database, serving: Serving) -> None:
        """Args: system: The database as the system."""
        self.spaces: tuple[SpaceCoverage, ...] = ()
        self.recall: RecallSummary | None = None
        self.backends = BackendTotals()
        self._triton = triton
        self._spaces = SpaceStore(system)
        self._vectors = SpaceVectorStore(system)
        self._recall = RecallStore(system)
        self._serving = serving

    async def watch_triton(self) -> None:
        """Ask Triton every ten seconds until cancelled."""
        while True:
            await self._attempt(self._ask_triton)
            await asyncio.sleep(_TRITON_PERIOD_S)

    async def watch_database(self) -> None:
        """Ask the database every minute, or less often where that takes long, until cancelled."""
        while True:
            began = time.monotonic()
            await self._attempt(self._ask_database)
            await asyncio.sleep(max(_STORED_PERIOD_S, (time.monotonic() - began) / _DUTY))

    async def _attempt(self, ask: Callable[[], Awaitable[None]]) -> None:
        try:
            await ask()
        except DuovecError as exc:
            logger.debug("not known at the moment: %s", exc)  # who serves says so louder
        except Exception:  # it must not end the task, which nobody waits for before the shutdown
            logger.exception("what is shown of the service grows old")

    async def _ask_triton(self) -> None:
        space = self._serving.active.embedder.space
        encoders = (space.code, space.text)
        self.backends.forget_others(set(self._triton.urls), {(encoder.name, encoder.version) for encoder in encoders})
        for encoder in encoders:
            answers = await self._triton.statistics(encoder, timeout_s=_TRITON_TIMEOUT_S)
            self.backends.observe(encoder.name, encoder.version, answers)

    async def _ask_database(self) -> None:
        coverages = []
        for space in await self._spaces.list():
            if space.state == "ACTIVE" or space.filling:
                counted = await self._vectors.count(space.space_key, timeout_s=_TIMEOUT_S)
                coverages.append(
                    SpaceCoverage(space.fingerprint, space.state, counted.chunk_count, counted.pending_chunk_count)
                )
        self.spaces = tuple(coverages)
        checks = await self._recall.list(self._serving.active.space_key, timeout_s=_TIMEOUT_S)
        counts = dict.fromkeys(("usual", "further", "whole", "below"), 0)
        for stored in checks:
            check = stored.check
            if check.index_suffices:
                counts["further" if check.least_ef else "usual"] += 1
            else:
                counts["whole" if check.vector_count <= FALLBACK_LIMIT else "below"] += 1
        now = datetime.now(UTC)
        self.recall = RecallSummary(
            counts,
            min((stored.check.mean_recall for stored in checks), default=None),
            min((stored.check.minimum_recall for stored in checks), default=None),
            max(((now - stored.check_time).total_seconds() for stored in checks), default=0.0),
        )
