"""A sample of a codebase's chunks with their vectors, to be laid out on a plane."""

from collections.abc import Sequence
from dataclasses import dataclass

from pgvector import HalfVector

from gateway.store.pool import Database
from gateway.store.queries import load_queries

_QUERIES = load_queries("codebase_map.sql")


@dataclass(frozen=True, slots=True)
class SampledChunk:
    """What is shown of a chunk."""

    chunk_id: int
    path: str
    language: str
    symbol: str
    kind: str
    start_line: int
    end_line: int


@dataclass(frozen=True, slots=True, eq=False)
class CodebaseSample:
    """Chunks by path and place in the file, and the vector of each as it is stored.

    Attributes:
        chunk_count: Chunks of the codebase with a vector in the space.
    """

    chunks: Sequence[SampledChunk]
    vectors: Sequence[HalfVector]
    chunk_count: int


class CodebaseMapStore:
    """Draws samples."""

    def __init__(self, database: Database) -> None:
        """Use `database` for every call; a caller sees the codebases that it may read."""
        self._database = database

    async def sample(self, codebase_key: int, space_key: int, limit: int, *, timeout_s: float) -> CodebaseSample:
        """Get up to `limit` chunks of a codebase with a vector in a space; of more, the same ones each time."""
        async with self._database.acquire(timeout_s) as connection:
            chunk_count: int = await connection.fetchval(_QUERIES["count_embedded"], codebase_key, space_key)
            records = await connection.fetch(_QUERIES["sample_embedded"], codebase_key, space_key, limit)
        rows = [dict(record) for record in records]
        vectors = [row.pop("embedding") for row in rows]
        return CodebaseSample([SampledChunk(**row) for row in rows], vectors, chunk_count)
