"""Builds the active space's HNSW index, and counts words, when a codebase has outgrown exact search."""

import asyncio
import contextlib
import logging

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
            try:
                if await self._spaces.build_hnsw_index(space.space_key):
                    logger.info("built the HNSW index of space %s", space.fingerprint)
                if counted := await self._word_counts.refresh():
                    logger.info("counted the words of %d large codebases", len(counted))
            except DuovecError as exc:
                # Exact search goes on answering; the next stream that ends asks again.
                logger.warning("the HNSW index was not built: %s", exc)
            except Exception:  # a full disk, say: it must not end the task, which nobody waits for before the shutdown
                logger.exception("the HNSW index was not built")
