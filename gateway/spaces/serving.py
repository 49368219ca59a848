"""Which space is served at this moment; requests ask for it once each."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from gateway.embedding.embedder import Embedder
from gateway.errors import DuovecError, SpaceMismatch, SpaceNotReady
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

    def mismatch(self, relied_on: str) -> SpaceMismatch | None:
        """The error for a caller that relies on the space of this fingerprint; None for this one, or empty for any."""
        if not relied_on or relied_on == self.fingerprint:
            return None
        return SpaceMismatch(f"the caller relies on space {relied_on[:64]!r}, and {self.fingerprint} is the active one")


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
        self._complaints: tuple[str, ...] = ()
        self._refreshing = asyncio.Lock()
        self._looked_at = 0.0
        self._writer_count = 0
        self._holder_count = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._released = asyncio.Event()

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
            SpaceMismatch: The active space is not the expected one.
            SpaceNotReady: It is none that this gateway can embed in.
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
        if self._active.mismatch(fingerprint):
            await self.refresh()
            if error := self._active.mismatch(fingerprint):
                raise error
        return self._active

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Do a batch that is stored in the active space first, and in the others then, while nobody holds writers."""
        while self._holder_count:
            await self._released.wait()
        self._writer_count += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._writer_count -= 1
            if not self._writer_count:
                self._quiet.set()

    @asynccontextmanager
    async def writers_held(self) -> AsyncIterator[None]:
        """Wait for the batches that are under way in this gateway, and keep others from beginning.

        Between its two steps a batch has chunks that lack a vector in a space beside the active one; where there is
        always such a batch, that space is never complete.
        """
        self._holder_count += 1
        self._released.clear()
        try:
            await self._quiet.wait()
            yield
        finally:
            self._holder_count -= 1
            if not self._holder_count:
                self._released.set()

    async def refresh(self) -> None:
        """Look which spaces are active and filled now.

        Raises:
            SpaceNotReady: The active one is none that this gateway can embed in; it keeps the one it had, in which
                the store then refuses everything.
        """
        asked = time.monotonic()
        async with self._refreshing:
            if self._looked_at > asked:
                return  # somebody looked while this one waited
            began = time.monotonic()
            await self._look()
            self._looked_at = began

    async def _look(self) -> None:
        spaces = await self._store.list()
        filled, complaints = [], []
        for space in spaces:
            if space.filling and space.state in {"BUILDING", "STANDBY"}:
                try:
                    filled.append(await self._served(space))
                except DuovecError as exc:
                    complaints.append(str(exc))
        self._filled = tuple(filled)
        for space in spaces:
            if space.state == "ACTIVE" and space.space_key != self._active.space_key:
                self._active = await self._served(space)
                logger.info("space %s is the active one now", space.fingerprint)
            elif space.state == "ACTIVE":
                try:
                    self._active = await self._served(space)
                except SpaceNotReady as exc:
                    complaints.append(str(exc))  # it goes on with the versions that it has, as long as Triton does
        await self._catalog.forget_all_but({space.fingerprint for space in spaces} | {self._active.fingerprint})
        self._complain(*complaints)

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

    def _complain(self, *complaints: str) -> None:
        """Log what is wrong, each once for as long as it stays so."""
        for complaint in complaints:
            if complaint not in self._complaints:
                logger.warning("%s", complaint)
        self._complaints = complaints
