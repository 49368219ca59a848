"""The vectors of one space for chunks that are stored already: which are missing, and giving them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector

from gateway.store.pool import Database
from gateway.store.queries import load_queries
from gateway.store.rows import Coverage, PendingChunk
from gateway.store.spaces import hold
from gateway.store.vectors import to_halves

_QUERIES = load_queries("space_vectors.sql")


@dataclass(frozen=True, slots=True, eq=False)
class StoredVector:
    """A chunk with its vector in a space, (2560,) float32."""

    codebase_id: str
    chunk: PendingChunk
    vector_D: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LargeCodebase:
    """A codebase, and how many vectors it has in a space."""

    codebase_key: int
    codebase_id: str
    vector_count: int


class SpaceVectorStore:
    """Reads and fills the vectors of a space, whatever its state."""

    def __init__(self, database: Database) -> None:
        """Use `database` for every call; what a caller may not see is not there for it."""
        self._database = database

    async def count(self, space_key: int, *, timeout_s: float) -> Coverage:
        """Count the chunks, and those without a vector. Linear in their number."""
        async with self._database.acquire(timeout_s) as connection:
            chunk_count = await connection.fetchval(_QUERIES["count_chunks"])
            pending_chunk_count = await connection.fetchval(_QUERIES["count_pending"], space_key)
        return Coverage(chunk_count, pending_chunk_count)

    async def find_pending(
        self, space_key: int, after_chunk_id: int, limit: int, *, timeout_s: float
    ) -> list[PendingChunk]:
        """Get chunks that have no vector in a space, by id.

        Args:
            space_key: The space.
            after_chunk_id: The last id of the call before; 0 for the first.
            limit: Rows at most.
            timeout_s: Deadline, seconds.
        """
        async with self._database.acquire(timeout_s) as connection:
            records = await connection.fetch(_QUERIES["find_pending"], space_key, after_chunk_id, limit)
        return [PendingChunk(**record) for record in records]

    async def copy(self, space_key: int, chunks: Sequence[PendingChunk], *, timeout_s: float) -> list[PendingChunk]:
        """Give chunks the vectors that equal texts of their codebases have in the space.

        Returns:
            Those that still have none: they are to be embedded.

        Raises:
            SpaceNotFound: The space was dropped.
        """
        ids = [chunk.chunk_id for chunk in chunks]
        async with self._database.acquire(timeout_s) as connection:
            await hold(connection, space_key)
            await connection.execute(_QUERIES["copy_missing"], space_key, ids)
            records = await connection.fetch(
                _QUERIES["find_lacking"], space_key, ids, [chunk.text_sha256 for chunk in chunks]
            )
        lacking = {record["chunk_id"] for record in records}
        return [chunk for chunk in chunks if chunk.chunk_id in lacking]

    async def insert(
        self, space_key: int, chunks: Sequence[PendingChunk], embeddings_BD: NDArray[np.float32], *, timeout_s: float
    ) -> None:
        """Give chunks their vectors. One that was deleted, has another text or got a vector meanwhile is left alone.

        Args:
            space_key: The space.
            chunks: B chunks.
            embeddings_BD: (B, 2560) float32, each row of norm 1, of the texts of `chunks`.
            timeout_s: Deadline, seconds; when it passes nothing was stored.

        Raises:
            BadVector: The array has another shape, or a row that is not finite or not of norm 1.
            SpaceNotFound: The space was dropped.
        """
        halves_BD = to_halves(embeddings_BD, len(chunks))
        async with self._database.acquire(timeout_s) as connection:
            await hold(connection, space_key)
            await connection.execute(
                _QUERIES["insert_missing"],
                space_key,
                [chunk.chunk_id for chunk in chunks],
                [chunk.text_sha256 for chunk in chunks],
                [HalfVector(half_D) for half_D in halves_BD],
            )

    async def sample(self, space_key: int, count: int, *, seed: int, timeout_s: float) -> list[StoredVector]:
        """Get about `count` chunks with their vectors, drawn by id; fewer where they are few, or ids have gaps."""
        async with self._database.acquire(timeout_s) as connection:
            ids = await connection.fetchrow(_QUERIES["get_chunk_range"])
            if ids is None or ids["least"] is None:
                return []
            draw = random.Random(seed)  # noqa: S311 - a sample, no secret
            numbers = sorted(draw.randint(ids["least"], ids["greatest"]) for _ in range(count))
            records = await connection.fetch(_QUERIES["sample_chunks"], space_key, numbers)
        return [
            StoredVector(
                record["codebase_id"],
                PendingChunk(**{field.name: record[field.name] for field in fields(PendingChunk)}),
                record["embedding"].to_numpy().astype(np.float32),
            )
            for record in records
        ]

    async def list_large(self, space_key: int, above_count: int, *, timeout_s: float) -> list[LargeCodebase]:
        """List the codebases that have more than `above_count` vectors in a space, largest first. Linear in vectors."""
        async with self._database.acquire(timeout_s) as connection:
            records = await connection.fetch(_QUERIES["list_large_codebases"], space_key, above_count)
        return [LargeCodebase(**record) for record in records]

    async def sample_codebase(
        self, space_key: int, codebase_key: int, count: int, *, seed: int, timeout_s: float
    ) -> dict[int, NDArray[np.float32]]:
        """Get up to `count` vectors of a codebase, (2560,) float32 each, by chunk id; the same for the same seed."""
        async with self._database.acquire(timeout_s) as connection:
            records = await connection.fetch(_QUERIES["sample_codebase"], space_key, codebase_key, seed, count)
        return {record["chunk_id"]: record["embedding"].to_numpy().astype(np.float32) for record in records}
