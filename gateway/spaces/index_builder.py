"""Builds the active space's index of vectors, and counts words, when a codebase has outgrown exact search."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator

from gateway.errors import DuovecError
from gateway.spaces.serving import Serving
from gateway.store.spaces import SpaceStore
from gateway.store.word_counts import WordCounts

logger = logging.getLogger(__name__)

# How often it is looked whether another space is the active one.
_LOOK_S = 5.0


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
        looked_at = None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._requested.wait()
            space = self._serving.active
            if not self._requested.is_set() and space.space_key == looked_at:
                continue
            # A space that was activated may have outgrown exact search since its index was last looked for.
            self._requested.clear()
            looked_at = space.space_key
            # Exact search, and old counts, go on answering; the next stream that ends asks again.
            with _logged("the index of vectors was not built"):
                if await self._spaces.build_hnsw_index(space.space_key):
                    logger.info("built the index of the vectors of space %s", space.fingerprint)
            with _logged("the words of large codebases were not counted"):
                if counted := await self._word_counts.refresh():
                    logger.info("counted the words of %d large codebases", len(counted))


@contextlib.contextmanager
def _logged(failure: str) -> Iterator[None]:
    """Log what is raised in the block: it must not end the task, which nobody waits for before the shutdown."""
    try:
        yield
    except DuovecError as exc:
        logger.warning("%s: %s", failure, exc)
    except Exception:
        logger.exception("%s", failure)
