"""Which texts are being embedded, so that of the same ones in several batches one is."""

import asyncio
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager

from gateway.telemetry.stages import Stage, stage

TextKey = tuple[int | None, int, int, bytes]
"""Principal, codebase, space, and SHA-256 of the text. Who waits for a quota holds nobody up whose quota is another."""


class TextsInWork:
    """Texts that were claimed by whoever embeds them.

    Nobody waits for a text while it holds one itself, so that no two wait for each other.
    """

    def __init__(self) -> None:
        self._claimed: dict[TextKey, asyncio.Future[None]] = {}

    def __len__(self) -> int:
        return len(self._claimed)

    @contextmanager
    def claimed(self, keys: Iterable[TextKey]) -> Iterator[set[TextKey]]:
        """Claim those texts that nobody has, to the end of the block; the others are somebody else's to embed.

        Yields:
            What was claimed; for `release`, too.
        """
        mine = {key for key in keys if key not in self._claimed}
        loop = asyncio.get_running_loop()
        self._claimed |= {key: loop.create_future() for key in mine}
        try:
            yield mine
        finally:
            self.release(mine, mine)

    def release(self, mine: set[TextKey], keys: Set[TextKey]) -> None:
        """Give up those of one's claims, before the block ends: they were stored, or need not be embedded."""
        for key in mine & keys:
            mine.remove(key)
            self._claimed.pop(key).set_result(None)

    async def wait(self, keys: Iterable[TextKey], *, timeout_s: float) -> None:
        """Wait until nobody embeds these texts any more, whatever came of it, or the time is over."""
        waited_for = {self._claimed[key] for key in keys if key in self._claimed}
        if waited_for:
            with stage(Stage.QUEUE, "wait for the same text"):
                await asyncio.wait(waited_for, timeout=timeout_s)
