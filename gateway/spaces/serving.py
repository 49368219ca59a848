"""Which space is served at this moment; requests ask for it once each."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from gateway.embedding.embedder import Embedder
from gateway.errors import DuovecError, SpaceMismatch
from gateway.spaces.catalog import SpaceCatalog
from gateway.store.rows import SpaceRow
from gateway.store.spaces import SpaceStore

logger = logging.getLogger(__name__)

REFRESH_PERIOD_S = 2.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ServedSpace:
    """A space that this gateway can embed in, with the store's key of it."""

    space_key: int
    embedder: Embedder

    @property
    def fingerprint(self) -> str:
        """64 hex digits."""
        return self.embedder.space.fingerprint


class Serving:
    """Holds the active space, and those that are filled beside it.

    Whoever answers a request takes the active space once, and stays with it to the end. The store refuses what was
    begun in a space that is not active any more; `call` then begins it again.
    """

    def __init__(self, store: SpaceStore, catalog: SpaceCatalog, active: ServedSpace) -> None:
        """Begin with a space; `run` follows what is activated afterwards, here or by another gateway."""
        self._store = store
        self._catalog = catalog
        self._active = active
        self._filled: tuple[ServedSpace, ...] = ()
        self._complaint = ""

    @property
    def active(self) -> ServedSpace:
        """The space that is searched and written to."""
        return self._active

    @property
    def filled(self) -> tuple[ServedSpace, ...]:
        """The spaces beside it that new chunks are also embedded in."""
        return self._filled

    async def call(self, work: Callable[[ServedSpace], Awaitable[_T]], *, expected: str = "") -> _T:
        """Do something in the active space; once more when another was activated meanwhile.

        Args:
            work: Must be harmless to repeat after a SpaceMismatch.
            expected: Fingerprint of the space that the caller relies on; empty for any.

        Raises:
            SpaceMismatch: The active space is not the expected one, or none that this gateway can embed in.
        """
        space = await self.expect(expected)
        try:
            return await work(space)
        except SpaceMismatch:
            await self.refresh()
            if self._active.space_key == space.space_key:
                raise
            return await work(await self.expect(expected))

    async def expect(self, fingerprint: str) -> ServedSpace:
        """Get the active space.

        Args:
            fingerprint: Of the space that the caller relies on; empty for any.

        Raises:
            SpaceMismatch: Another one is active.
        """
        if fingerprint not in {"", self._active.fingerprint}:
            await self.refresh()
            if fingerprint != self._active.fingerprint:
                raise SpaceMismatch(
                    f"the caller relies on space {fingerprint[:64]!r}, and {self._active.fingerprint} is the active one"
                )
        return self._active

    async def refresh(self) -> None:
        """Look which spaces are active and filled now.

        Raises:
            SpaceNotReady: The active one is none that this gateway can embed in; it keeps the one it had, in which
                the store then refuses everything.
        """
        spaces = await self._store.list()
        filled = []
        for space in spaces:
            if space.filling and space.state in {"BUILDING", "STANDBY"}:
                try:
                    filled.append(await self._served(space))
                except DuovecError as exc:
                    self._complain(str(exc))
        self._filled = tuple(filled)
        for space in spaces:
            if space.state == "ACTIVE" and space.space_key != self._active.space_key:
                self._active = await self._served(space)
                logger.info("space %s is the active one now", space.fingerprint)

    async def run(self) -> None:
        """Follow the database until cancelled."""
        while True:
            try:
                await self.refresh()
            except DuovecError as exc:
                self._complain(str(exc))
            except Exception:
                logger.exception("the spaces could not be read")
            await asyncio.sleep(REFRESH_PERIOD_S)

    async def _served(self, space: SpaceRow) -> ServedSpace:
        return ServedSpace(space.space_key, await self._catalog.embedder(space.fingerprint, space.manifest))

    def _complain(self, complaint: str) -> None:
        """Log what is wrong, once for as long as it stays so."""
        if complaint != self._complaint:
            logger.warning("%s", complaint)
        self._complaint = complaint
