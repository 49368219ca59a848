"""Chunks and their vectors: what is stored, storing more, and deleting."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector

from gateway.errors import ChunkNotFound, DatabaseUnavailable, NotFound
from gateway.store.codebases import outdate_revision
from gateway.store.pool import Database
from gateway.store.queries import load_queries
from gateway.store.rows import ChunkRow, ExistingChunks, FileSelector, FileVersionRow
from gateway.store.spaces import hold_active, require_active
from gateway.store.vectors import to_halves

if TYPE_CHECKING:
    from gateway.store.pool import Connection

_QUERIES = load_queries("chunks.sql")
_DEFAULT_TIMEOUT_S = 30.0

# What makes a chunk the same chunk within its codebase: path, version of the file, position in it.
_Key = tuple[str, bytes, int]


class ChunkStore:
    """Stores chunks with vectors. A chunk without vector in a space is pending there and cannot be found."""

    def __init__(self, database: Database) -> None:
        """Use `database` for every call."""
        self._database = database

    async def find_existing(
        self, codebase_key: int, space_key: int, rows: Sequence[ChunkRow], *, timeout_s: float = _DEFAULT_TIMEOUT_S
    ) -> ExistingChunks:
        """Find what need not be embedded of a batch: chunks that are there as sent, and texts that have a vector.

        Args:
            codebase_key: The codebase.
            space_key: The space in which vectors count.
            rows: The batch.
            timeout_s: Deadline, seconds.

        Raises:
            SpaceMismatch: Another space is the active one by now, in which what is there may have no vector.
        """
        async with self._database.acquire(timeout_s) as connection:
            await require_active(connection, space_key)
            records = await connection.fetch(
                _QUERIES["find_unchanged"],
                codebase_key,
                space_key,
                *_key_columns(rows),
                [row.text_sha256 for row in rows],
                [row.language for row in rows],
                [row.symbol for row in rows],
                [row.kind for row in rows],
                [row.start_line for row in rows],
                [row.end_line for row in rows],
                [row.file_chunk_count for row in rows],
            )
            unchanged: dict[int, int] = {record["n"] - 1: record["chunk_id"] for record in records}
            texts = {row.text_sha256 for i, row in enumerate(rows) if i not in unchanged}
            reusable = await connection.fetch(_QUERIES["find_reusable"], codebase_key, space_key, sorted(texts))
        return ExistingChunks(unchanged, frozenset(record["content_sha256"] for record in reusable))

    async def insert(
        self,
        codebase_key: int,
        space_key: int,
        rows: Sequence[ChunkRow],
        embeddings_BD: NDArray[np.float32],
        *,
        update_number: int = 0,
        timeout_s: float,
    ) -> list[int]:
        """Store chunks with their vectors, all or none.

        Idempotent, and safe beside other writers of the same chunks: a chunk that has a vector for its text keeps
        it. A chunk that is there with another text is replaced, and loses the vectors of the old text in every
        space. Of rows that are the same chunk the last counts.

        Args:
            codebase_key: The codebase.
            space_key: The space that the vectors belong to.
            rows: B chunks.
            embeddings_BD: (B, 2560), float32, each row of norm 1.
            update_number: The update that writes them (`CodebaseStore.begin_update`); 0 for none.
            timeout_s: Deadline, seconds; when it passes nothing was stored.

        Returns:
            The chunks' ids, in the order of `rows`.

        Raises:
            BadVector: The array has another shape, or a row that is not finite or not of norm 1.
            NotFound: The codebase was deleted, or is being deleted.
            SpaceMismatch: Another space is the active one by now.
            DeadlineExceeded: It took longer than `timeout_s`.
            DatabaseUnavailable: The server cannot be reached; safe to repeat.
        """
        halves_BD = to_halves(embeddings_BD, len(rows))
        if not rows:
            return []
        position_by_key = {_key(row): position for position, row in enumerate(rows)}
        keys = sorted(position_by_key)
        async with self._database.acquire(timeout_s) as connection:
            await hold_active(connection, space_key)
            ids, embedded = await _upsert(
                connection, codebase_key, space_key, [rows[position_by_key[key]] for key in keys], update_number
            )
            # Their rows are locked until the end, so nobody else gives these chunks a vector meanwhile.
            missing = {key: chunk_id for key, chunk_id in ids.items() if chunk_id not in embedded}
            await connection.execute(
                _QUERIES["insert_embeddings"],
                codebase_key,
                space_key,
                list(missing.values()),
                [HalfVector(halves_BD[position_by_key[key]]) for key in missing],
            )
        return [ids[_key(row)] for row in rows]

    async def insert_reused(
        self,
        codebase_key: int,
        space_key: int,
        rows: Sequence[ChunkRow],
        *,
        update_number: int = 0,
        timeout_s: float,
    ) -> list[int | None]:
        """Store chunks whose text has a vector in the codebase already; the vectors are copied in the database.

        Args:
            codebase_key: The codebase.
            space_key: The space to copy in.
            rows: Chunks whose `text_sha256` is among `ExistingChunks.reusable`.
            update_number: As of `insert`.
            timeout_s: Deadline, seconds; when it passes nothing was stored.

        Returns:
            The chunks' ids, in the order of `rows`. None where the other vector was deleted meanwhile: that chunk is
            stored as pending, and is to be embedded and given to `insert`.

        Raises:
            NotFound: The codebase was deleted, or is being deleted.
            SpaceMismatch: Another space is the active one by now.
            DeadlineExceeded: It took longer than `timeout_s`.
            DatabaseUnavailable: The server cannot be reached; safe to repeat.
        """
        if not rows:
            return []
        row_by_key = {_key(row): row for row in rows}
        keys = sorted(row_by_key)
        async with self._database.acquire(timeout_s) as connection:
            await hold_active(connection, space_key)
            ids, embedded = await _upsert(
                connection, codebase_key, space_key, [row_by_key[key] for key in keys], update_number
            )
            missing = [chunk_id for chunk_id in ids.values() if chunk_id not in embedded]
            copied = await connection.fetch(_QUERIES["reuse_embeddings"], codebase_key, space_key, missing)
        stored = embedded | {record["chunk_id"] for record in copied}
        return [ids[_key(row)] if ids[_key(row)] in stored else None for row in rows]

    async def list_files(
        self,
        codebase_key: int,
        space_key: int,
        after: tuple[str, bytes] | None,
        limit: int,
        *,
        timeout_s: float = _DEFAULT_TIMEOUT_S,
    ) -> list[FileVersionRow]:
        """List the stored versions of files by path, then hash; also those with no vector in the space yet.

        Args:
            codebase_key: The codebase.
            space_key: The space in which chunks count as stored.
            after: Path and hash of the last row of the page before; None for the first page.
            limit: Rows at most.
            timeout_s: Deadline, seconds.
        """
        path, file_sha256 = after or ("", b"")
        async with self._database.acquire(timeout_s) as connection:
            records = await connection.fetch(_QUERIES["list_files"], codebase_key, space_key, path, file_sha256, limit)
        return [FileVersionRow(**record) for record in records]

    async def get_with_neighbors(
        self, codebase_key: int, chunk_id: int, neighbor_count: int, *, timeout_s: float = _DEFAULT_TIMEOUT_S
    ) -> dict[int, ChunkRow]:
        """Get a chunk, and those around it in the same version of its file.

        Args:
            codebase_key: The codebase.
            chunk_id: The chunk.
            neighbor_count: Chunks before it at most, and after it.
            timeout_s: Deadline, seconds.

        Returns:
            Chunks by id, in the order of the file.

        Raises:
            ChunkNotFound: The codebase has no chunk of this id.
        """
        async with self._database.acquire(timeout_s) as connection:
            records = await connection.fetch(_QUERIES["get_with_neighbors"], codebase_key, chunk_id, neighbor_count)
        if not records:
            raise ChunkNotFound(f"the codebase has no chunk {chunk_id}")
        rows = [dict(record) for record in records]
        return {row.pop("chunk_id"): ChunkRow(**row) for row in rows}

    async def delete_files(
        self,
        codebase_key: int,
        selectors: Sequence[FileSelector],
        *,
        update_number: int = 0,
        timeout_s: float = _DEFAULT_TIMEOUT_S,
    ) -> int:
        """Delete the chunks of files, with their vectors in every space.

        Args:
            codebase_key: The codebase.
            selectors: What goes of each file.
            update_number: As of `insert`.
            timeout_s: Deadline, seconds.

        Returns:
            How many chunks were deleted.

        Raises:
            NotFound: The codebase is being deleted.
        """
        rows = [
            (one.path, one.keep_file_sha256, one.keep_file_chunk_count, version)
            for one in selectors
            for version in one.delete_file_sha256 or (None,)
        ]
        columns = [list(column) for column in zip(*rows, strict=True)]
        async with self._database.acquire(timeout_s) as connection:
            await _hold_codebase(connection, codebase_key, update_number)
            count: int = await connection.fetchval(_QUERIES["delete_files"], codebase_key, *columns)
        return count


async def _upsert(
    connection: "Connection", codebase_key: int, space_key: int, rows: Sequence[ChunkRow], update_number: int
) -> tuple[dict[_Key, int], set[int]]:
    """Write and lock chunks; give their ids by key, and the ids of those that have a vector of the space.

    The rows must be distinct and sorted by key: every writer locks in this order, so that none waits for another
    in a circle.
    """
    await _hold_codebase(connection, codebase_key, update_number)
    columns = [
        [row.path for row in rows],
        [row.language for row in rows],
        [row.symbol for row in rows],
        [row.kind for row in rows],
        [row.start_line for row in rows],
        [row.end_line for row in rows],
        [row.content for row in rows],
        [row.text_sha256 for row in rows],
        [row.file_sha256 for row in rows],
        [row.ordinal for row in rows],
        [row.file_chunk_count for row in rows],
    ]
    await connection.execute(_QUERIES["insert_chunks"], codebase_key, *columns)
    records = await connection.fetch(_QUERIES["get_stored_chunks"], codebase_key, space_key, *_key_columns(rows))
    if len(records) != len(rows):
        raise DatabaseUnavailable("chunks were deleted while they were written, try again")
    ids = {_key(row): record["chunk_id"] for row, record in zip(rows, records, strict=True)}
    return ids, {record["chunk_id"] for record in records if record["embedded"]}


async def _hold_codebase(connection: "Connection", codebase_key: int, update_number: int) -> None:
    """Let the transaction write into a codebase unless it is being deleted.

    Deleting a large one takes a minute; writers that wait for its end would hold every connection meanwhile.
    """
    if not await connection.fetchval(_QUERIES["hold_codebase"], codebase_key):
        raise NotFound("the codebase is being deleted")
    # Before the rows of chunks, by every writer: else each could wait for the other.
    await outdate_revision(connection, codebase_key, update_number)


def _key(row: ChunkRow) -> _Key:
    return (row.path, row.file_sha256, row.ordinal)


def _key_columns(rows: Sequence[ChunkRow]) -> tuple[list[str], list[bytes], list[int]]:
    return [row.path for row in rows], [row.file_sha256 for row in rows], [row.ordinal for row in rows]
