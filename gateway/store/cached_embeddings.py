"""The embedding cache in PostgreSQL: shared by gateways, and there after a restart of theirs."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.store.caller import current_principal_key
from gateway.store.pool import Database
from gateway.store.queries import load_queries

_QUERIES = load_queries("cached_embeddings.sql")
_EVICT_TIMEOUT_S = 60.0
# Rows are counted, and the longest unused deleted, each time a twentieth of the limit was added.
_EVICTIONS_PER_LIMIT = 20


class CachedEmbeddings:
    """Vectors of texts, by principal, space, input type and SHA-256 of the text.

    A principal finds what it put there itself and nothing else: its key is part of the key, and row-level security
    holds the transaction to it. Deleting a principal, or a space, deletes its rows by cascade.

    Attributes:
        evicted_count: Rows that this object deleted to keep the table within its limit.
    """

    def __init__(self, database: Database, fingerprint: str, *, max_texts: int) -> None:
        """Keep vectors of one space.

        Args:
            database: As requests use it: each call acts with the key of its caller.
            fingerprint: The space, 64 hex digits.
            max_texts: Rows of all spaces and principals together, 12.7 kB each with their index. A twentieth more may
                be there for each gateway until they are next counted.
        """
        self.evicted_count = 0
        self._database = database
        self._system = database.as_system()
        self._fingerprint = fingerprint
        self._max_texts = max_texts
        # So that the first write counts: the limit may have been lowered.
        self._added_count = max_texts

    def owner(self) -> int | None:
        """The principal of the running call; None for the system."""
        return current_principal_key()

    async def read(
        self, input_type: str, digests: Sequence[bytes], *, timeout_s: float
    ) -> dict[bytes, NDArray[np.float32]]:
        """Find the caller's vectors, each (2560,) float32, by the SHA-256 of their texts.

        Raises:
            Unauthenticated: The caller's key was revoked or has expired.
            DeadlineExceeded: It took longer than `timeout_s`.
            DatabaseUnavailable: The server cannot be reached.
        """
        async with self._database.acquire(timeout_s) as connection:
            records = await connection.fetch(_QUERIES["find"], self._fingerprint, input_type, list(digests))
            if old := [record["text_sha256"] for record in records if record["is_use_time_old"]]:
                await connection.execute(_QUERIES["touch"], self._fingerprint, input_type, sorted(old))
        return {record["text_sha256"]: np.frombuffer(record["vector"], dtype="<f4") for record in records}

    async def write(self, input_type: str, vectors: Mapping[bytes, NDArray[np.float32]], *, timeout_s: float) -> None:
        """Keep vectors of the caller's, each (2560,) float32, by the SHA-256 of their texts.

        Raises:
            Unauthenticated, DeadlineExceeded, DatabaseUnavailable: As `read`.
        """
        values = [vector_V.astype("<f4", copy=False).tobytes() for vector_V in vectors.values()]
        async with self._database.acquire(timeout_s) as connection:
            await connection.execute(_QUERIES["insert"], self._fingerprint, input_type, list(vectors), values)
        self._added_count += len(vectors)
        if self._added_count * _EVICTIONS_PER_LIMIT >= self._max_texts:
            self._added_count = 0
            await self._evict()

    async def _evict(self) -> None:
        """Delete the longest unused rows beyond the limit, unless another gateway is about it."""
        async with self._system.acquire(_EVICT_TIMEOUT_S) as connection:
            if await connection.fetchval(_QUERIES["try_lock_eviction"]):
                done = await connection.execute(_QUERIES["evict"], self._max_texts)
                self.evicted_count += int(done.rpartition(" ")[2])
