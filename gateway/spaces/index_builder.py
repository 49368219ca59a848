"""Builds the active space's index of vectors, and counts words, when a codebase has outgrown exact search."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Iterator

from gateway.errors import DuovecError
from gateway.spaces.serving import ServedSpace, Serving
from gateway.store.spaces import SpaceStore
from gateway.store.word_counts import WordCounts

logger = logging.getLogger(__name__)

# How often it is looked whether another space is the active one.
_LOOK_S = 5.0
# After how long it is tried again what failed, or what another gateway was about, which may fail or end. Twice as long
# each time: what fails after hours, as for want of room, is not to be begun anew all day.
_AGAIN_S, _AGAIN_AT_MOST_S = 60.0, 3600.0


class IndexBuilder:
    """Works beside the service, each time that it is asked to look."""

    def __init__(self, spaces: SpaceStore, word_counts: WordCounts, serving: Serving) -> None:
        """Look once at the start."""
        self._spaces = spaces
        self._word_counts = word_counts
        self._serving = serving
        self._requested = asyncio.Event()
        self.request()

    def request(self) -> None:
        """Look soon whether an index is due."""
        self._requested.set()

    async def run(self) -> None:
        """Work until cancelled."""
        looked_at, again_at, pause_s = None, math.inf, _AGAIN_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._requested.wait()
            space = self._serving.active
            if not self._requested.is_set() and space.space_key == looked_at and time.monotonic() < again_at:
                continue
            is_again = time.monotonic() >= again_at
            if space.space_key != looked_at:
                # A space that was activated may have outgrown exact search since its index was last looked for.
                pause_s = _AGAIN_S
            self._requested.clear()
            looked_at = space.space_key
            # Exact search, and old counts, go on answering meanwhile.
            is_settled = [await self._build(space), await self._count()]
            if all(is_settled):
                again_at, pause_s = math.inf, _AGAIN_S
                continue
            if is_again:
                pause_s = min(2 * pause_s, _AGAIN_AT_MOST_S)
            again_at = time.monotonic() + pause_s

    async def _build(self, space: ServedSpace) -> bool:
        """Build the index of vectors where it is due; False where it is still to come."""
        built: bool | None = None
        with _logged("the index of vectors was not built"):
            built = await self._spaces.build_hnsw_index(space.space_key)
        if built:
            logger.info("built the index of the vectors of space %s", space.fingerprint)
        return built is not None

    async def _count(self) -> bool:
        """Count words where that is due; False where it failed."""
        counted: list[int] | None = None
        with _logged("the words of large codebases were not counted"):
            counted = await self._word_counts.refresh()
        if counted:
            logger.info("counted the words of %d large codebases", len(counted))
        return counted is not None


@contextlib.contextmanager
def _logged(failure: str) -> Iterator[None]:
    """Log what is raised in the block: it must not end the task, which nobody waits for before the shutdown."""
    try:
        yield
    except DuovecError as exc:
        logger.warning("%s: %s", failure, exc)
    except Exception:
        logger.exception("%s", failure)
