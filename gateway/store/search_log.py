"""The log of searches: written after the reply, so that no search waits for it or fails with it."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Literal
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector

from gateway.concurrency import running
from gateway.errors import DuovecError
from gateway.store.pool import Database
from gateway.store.queries import load_queries
from gateway.store.retention import Keeper

if TYPE_CHECKING:
    from gateway.store.pool import Connection

logger = logging.getLogger(__name__)

QueryKind = Literal["QUERY", "CODE", "LIKE"]

# What waits to be written: a search of a short text takes about 20 kB, its vector most of it.
MAX_WAITING_BYTES = 64 * 2**20
_BASE_BYTES = 12_000
_BYTES_PER_HIT = 300
_BYTES_PER_CHARACTER = 4
# A search is written this long after its reply, together with those that came meanwhile, or as soon as somebody asks
# for it.
_LINGER_S = 0.1
_BATCH = 256
_WRITE_TIMEOUT_S = 10.0
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 5.0
_FLUSH_TIMEOUT_S = 5.0

# What a search is refused for that would be refused for ever; it must not hold up the others.
_NEVER_STORABLE = (asyncpg.DataError, asyncpg.CheckViolationError)

_QUERIES = load_queries("feedback.sql")


@dataclass(frozen=True, slots=True)
class ShownHit:
    """A hit as the reply showed it; `text_sha256` is that of the text that was embedded for the chunk."""

    chunk_id: int
    codebase_key: int
    text_sha256: bytes
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class AnsweredSearch:
    """A search and what its first page showed.

    Attributes:
        key_id: The API key that asked.
        space: Fingerprint of the space that was searched.
        query_kind: What the query was.
        query_text: The words or the code; empty for LIKE.
        like_chunk_id: The chunk of LIKE.
        vector_D: The query's vector, (2560,), norm 1; None where it cannot be compared with other queries' vectors.
        codebase_keys: The codebases that it named.
        hits: Best first.
    """

    key_id: str
    space: str
    query_kind: QueryKind
    query_text: str
    like_chunk_id: int | None
    vector_D: NDArray[np.float32] | None
    codebase_keys: Sequence[int]
    hits: Sequence[ShownHit]


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    search_id: UUID
    create_time: datetime
    search: AnsweredSearch
    size_bytes: int


class SearchLog:
    """Takes answered searches, and writes them in batches while it runs.

    What is waiting is bounded. A batch that cannot be written is tried again until it can; meanwhile searches find no
    room and are told so, by getting no id.

    Attributes:
        waiting_bytes: Of memory that what is not written yet takes, as estimated.
        max_waiting_bytes: Its limit.
        refused_count: Searches that found no room so far.
    """

    def __init__(self, database: Database, *, max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        """Use `database`, as the system: no request may write the log."""
        self._database = database
        self.max_waiting_bytes = max_waiting_bytes
        self.refused_count = 0
        self._waiting: dict[UUID, _Entry] = {}
        self.waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._hurry = asyncio.Event()
        self._progress = asyncio.Event()

    def __repr__(self) -> str:
        return f"SearchLog(waiting={len(self._waiting)}, bytes={self.waiting_bytes}/{self.max_waiting_bytes})"

    @property
    def waiting_count(self) -> int:
        """Searches that are not written yet."""
        return len(self._waiting)

    def add(self, search: AnsweredSearch) -> str:
        """Take a search; never waits.

        Returns:
            The id by which feedback on it is given, 128 random bits; empty when there was no room, and the search is
            not logged.
        """
        size_bytes = _BASE_BYTES + _BYTES_PER_HIT * len(search.hits) + _BYTES_PER_CHARACTER * len(search.query_text)
        if self.waiting_bytes + size_bytes > self.max_waiting_bytes:
            self.refused_count += 1
            return ""
        entry = _Entry(UUID(bytes=secrets.token_bytes(16)), datetime.now(UTC), search, size_bytes)
        self._waiting[entry.search_id] = entry
        self.waiting_bytes += size_bytes
        self._arrived.set()
        return str(entry.search_id)

    def is_waiting(self, search_id: UUID, key_id: str) -> bool:
        """Whether a search that was asked with a key is not written yet."""
        entry = self._waiting.get(search_id)
        return entry is not None and entry.search.key_id == key_id

    async def wait_for(self, search_id: UUID, *, timeout_s: float) -> None:
        """Return once a search is written, or is none of ours, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while search_id in self._waiting:
                    self._hurry.set()
                    await self._progress.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write what comes for the length of the block; at its end what is left, as far as a few seconds allow."""
        try:
            async with running(self._run()):
                yield
        finally:
            try:
                async with asyncio.timeout(_FLUSH_TIMEOUT_S):
                    while self._waiting:
                        await self._write_batch()
            except (DuovecError, asyncpg.PostgresError, TimeoutError) as exc:
                logger.error("%d searches are lost to the log: %s", len(self._waiting), exc)

    async def _run(self) -> None:
        retry_s = _FIRST_RETRY_S
        while True:
            await self._arrived.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), _LINGER_S)
            self._hurry.clear()
            try:
                await self._write_batch()
            except DuovecError as exc:
                logger.warning("%d searches are not logged yet: %s", len(self._waiting), exc)
            except Exception:  # a full disk, say: the log must go on when it has passed
                logger.exception("%d searches are not logged yet", len(self._waiting))
            else:
                retry_s = _FIRST_RETRY_S
                if not self._waiting:
                    self._arrived.clear()
                continue
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, _LAST_RETRY_S)

    async def _write_batch(self) -> None:
        batch = list(islice(self._waiting.values(), _BATCH))
        try:
            await self._write(batch)
        except _NEVER_STORABLE:
            for entry in batch:
                try:
                    await self._write([entry])
                except _NEVER_STORABLE:
                    logger.exception("search %s is lost to the log", entry.search_id)
                self._forget([entry])
        else:
            self._forget(batch)

    def _forget(self, batch: Sequence[_Entry]) -> None:
        for entry in batch:
            del self._waiting[entry.search_id]
            self.waiting_bytes -= entry.size_bytes
        self._progress.set()
        self._progress = asyncio.Event()

    async def _write(self, batch: Sequence[_Entry]) -> None:
        async with self._database.acquire(_WRITE_TIMEOUT_S) as connection:
            await _insert(connection, batch)


class SearchLogKeeper(Keeper):
    """Deletes searches, with their feedback, once they are older than the retention period."""

    def __init__(self, database: Database, *, retention: timedelta) -> None:
        """Use `database`, as the system."""
        super().__init__(database, delete=_QUERIES["delete_expired"], retention=retention, what="searches")


async def _insert(connection: "Connection", batch: Sequence[_Entry]) -> None:
    await connection.execute(_QUERIES["make_quick"])
    searches = [entry.search for entry in batch]
    records = await connection.fetch(
        _QUERIES["insert_searches"],
        [entry.search_id for entry in batch],
        [search.key_id for search in searches],
        [search.space for search in searches],
        [search.query_kind for search in searches],
        [None if search.query_kind == "LIKE" else search.query_text for search in searches],
        [search.like_chunk_id for search in searches],
        [_halves(search.vector_D) for search in searches],
        [len(search.hits) for search in searches],
        [entry.create_time for entry in batch],
    )
    added = {record["search_key"] for record in records}
    named = [(entry.search_id, key) for entry in batch for key in entry.search.codebase_keys]
    shown = [(entry.search_id, rank, hit) for entry in batch for rank, hit in enumerate(entry.search.hits, 1)]
    records = await connection.fetch(
        _QUERIES["insert_searched_codebases"],
        list(added),
        [search_id for search_id, _ in named],
        [codebase_key for _, codebase_key in named],
        [search_id for search_id, _, _ in shown],
        [hit.codebase_key for _, _, hit in shown],
        [hit.chunk_id for _, _, hit in shown],
        [hit.text_sha256 for _, _, hit in shown],
        [rank for _, rank, _ in shown],
        [hit.score for _, _, hit in shown],
    )
    # Searches all of whose codebases were deleted meanwhile.
    if nothing := added - {record["search_key"] for record in records}:
        await connection.execute(_QUERIES["delete_searches"], list(nothing))


def _halves(vector_D: NDArray[np.float32] | None) -> HalfVector | None:
    return None if vector_D is None else HalfVector(vector_D.astype(np.float16))
