"""Re-embedding: fills the spaces beside the active one from the stored chunks, and verifies them."""

import asyncio
import logging
import secrets
import time

from gateway.concurrency import run_all
from gateway.errors import BackendFault, DeadlineExceeded, DuovecError, SpaceNotFound
from gateway.spaces.filling import fill
from gateway.spaces.serving import ServedSpace, Serving
from gateway.spaces.verification import verify
from gateway.store.pool import Database
from gateway.store.rows import PendingChunk, SpaceRow
from gateway.store.space_vectors import SpaceVectorStore
from gateway.store.spaces import SpaceStore

logger = logging.getLogger(__name__)

BATCH_SIZE = 64
BATCHES_AT_ONCE = 2
"""So that one is embedded while the other is stored."""
IDLE_PERIOD_S = 1.0
PAUSE_AFTER_FAILURE_S = 5.0
_TIMEOUT_S = 120.0
_LOOK_SHARE = 20
# For so long one space is filled before the others get their turn: a slow fill must not keep them from completeness.
_SLICE_S = 60.0
# A slice and, at the end, a verification, whose index may take hours.
_TURN_S = 24 * 3600.0


class Reembedder:
    """Runs in every gateway; one at a time works on a space, and another goes on where it was stopped.

    What is left to do is what has no vector: nothing else is remembered, so nothing is lost with a process.
    """

    def __init__(self, database: Database, store: SpaceStore, serving: Serving) -> None:
        """Use `database` as the system; `serving` says which spaces are filled."""
        self._database = database
        self._store = store
        self._serving = serving
        self._vectors = SpaceVectorStore(database)
        self._next_look: dict[int, float] = {}
        # By space: the last chunk that was tried in this pass, and how many a batch of slow encoders may have.
        self._after: dict[int, int] = {}
        # By space: when its rate allows the next chunks, also those that come after the last was filled.
        self._due: dict[int, float] = {}
        self._batch_size: dict[int, int] = {}

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            for space in self._serving.filled:
                try:
                    await self._work_on(space)
                except SpaceNotFound:
                    continue  # dropped
                except DuovecError as exc:
                    logger.warning("space %s: %s", space.fingerprint, exc)
                    await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
                except Exception:  # it must not end the task, which nobody waits for before the shutdown
                    logger.exception("space %s could not be filled", space.fingerprint)
                    await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
            await asyncio.sleep(IDLE_PERIOD_S)

    async def _work_on(self, space: ServedSpace) -> None:
        if time.monotonic() < self._next_look.get(space.space_key, 0.0):
            return
        began = time.monotonic()
        complete = await self._is_complete(space)
        if complete:
            # Looking at a million chunks takes a second: what is complete is looked at for a twentieth of the time.
            self._next_look[space.space_key] = time.monotonic() + _LOOK_SHARE * (time.monotonic() - began)
        if complete and not _needs_verification(await self._store.get(space.space_key)):
            return
        async with self._store.fill_lock(space.space_key, timeout_s=_TURN_S) as taken:
            if not taken:
                return
            if await self._fill(space):
                await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
            elif _needs_verification(await self._store.get(space.space_key)) and await self._is_complete(space):
                await self._verify(space)

    async def _is_complete(self, space: ServedSpace) -> bool:
        return not await self._vectors.find_pending(space.space_key, 0, 1, timeout_s=_TIMEOUT_S)

    async def _fill(self, space: ServedSpace) -> int:
        """Go on over the chunks that lack a vector for a slice of time, no faster than is allowed; stops when told to.

        A pass goes once over all of them, whatever fails: one chunk that cannot be embedded holds up no other.

        Returns:
            How many could not be given one.
        """
        key, failure_count = space.space_key, 0
        end = time.monotonic() + _SLICE_S
        while time.monotonic() < end:
            row = await self._store.get(key)
            if not row.filling or row.state == "ACTIVE":
                return failure_count
            size = self._batch_size.get(key, BATCH_SIZE)
            limit = size * BATCHES_AT_ONCE
            if row.fill_rate is not None:
                limit = max(1, min(limit, int(row.fill_rate)))
            chunks = await self._vectors.find_pending(key, self._after.get(key, 0), limit, timeout_s=_TIMEOUT_S)
            if not chunks:
                self._after[key] = 0
                return failure_count
            if row.fill_rate is not None:
                await asyncio.sleep(self._due.get(key, 0.0) - time.monotonic())
                self._due[key] = time.monotonic() + len(chunks) / row.fill_rate
            self._after[key] = chunks[-1].chunk_id
            batches = [chunks[start : start + size] for start in range(0, len(chunks), size)]
            failure_count += sum(await run_all(self._fill_batch(space, batch) for batch in batches))
            self._batch_size[key] = min(BATCH_SIZE, size + 1)
        return failure_count

    async def _fill_batch(self, space: ServedSpace, batch: list[PendingChunk]) -> int:
        try:
            outcome = await fill(self._vectors, space, batch, truncate=True, timeout_s=_TIMEOUT_S)
        except DuovecError as exc:
            if isinstance(exc, DeadlineExceeded | BackendFault):
                # What slow encoders do not finish in time, or one text spoils, would be begun in vain again and again.
                self._batch_size[space.space_key] = max(1, len(batch) // 2)
            if not isinstance(exc, SpaceNotFound):
                await self._store.note_fill_error(space.space_key, str(exc))
            raise
        if outcome.truncated_count:
            await self._store.add_truncated(space.space_key, outcome.truncated_count)
        error = next((f"chunk {chunk_id}: {error}" for chunk_id, error in outcome.errors.items()), "")
        await self._store.note_fill_error(space.space_key, error)
        return len(outcome.errors)

    async def _verify(self, space: ServedSpace) -> None:
        logger.info("space %s is complete; it is verified", space.fingerprint)
        await self._store.build_hnsw_index(space.space_key)
        found = await verify(
            self._database, space, self._serving.active, seed=secrets.randbits(31), timeout_s=_TIMEOUT_S
        )
        if found.pending_chunk_count:
            return  # chunks came meanwhile, which is no fault of the space: they are filled, and it is verified again
        await self._store.set_verification(space.space_key, found.to_json())
        logger.info("space %s %s", space.fingerprint, "; ".join((*found.faults, *found.notices)) or "was verified")


def _needs_verification(row: SpaceRow) -> bool:
    return row.filling and row.state == "BUILDING" and row.verification is None
