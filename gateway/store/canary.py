"""The canary: proof that a vector can be stored and found, which leaves nothing behind."""

import uuid

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector

from gateway.errors import BackendFault
from gateway.store.pool import Database
from gateway.store.queries import load_queries
from gateway.store.spaces import require_active

_CANARY = load_queries("canary.sql")


async def find_canary(
    database: Database,
    space_key: int,
    *,
    text: str,
    passage_D: NDArray[np.float32],
    query_D: NDArray[np.float32],
    timeout_s: float,
) -> float:
    """Store a chunk, search it, and roll everything back.

    Args:
        database: The pool.
        space_key: The space of both vectors.
        text: The chunk's content.
        passage_D: (2560,) its vector.
        query_D: (2560,) the vector that looks for it.
        timeout_s: Deadline, seconds.

    Returns:
        The score of the hit.

    Raises:
        BackendFault: The chunk was not found.
        SpaceMismatch: Another space is the active one.
        DatabaseUnavailable: The server cannot be reached.
        DeadlineExceeded: It took longer than `timeout_s`.
    """
    async with database.acquire(timeout_s) as connection:
        await require_active(connection, space_key)
        savepoint = connection.transaction()
        await savepoint.start()
        stored = await connection.fetchrow(
            _CANARY["insert_canary"],
            f"canary-{uuid.uuid4().hex}",
            text,
            space_key,
            HalfVector(passage_D.astype(np.float16)),
        )
        if stored is None:
            raise BackendFault("the canary was not stored")
        hits = await connection.fetch(
            _CANARY["find_nearest"],
            stored["codebase_key"],
            space_key,
            HalfVector(query_D.astype(np.float16)),
        )
        # Where this is not come to, the transaction around it is undone.
        await savepoint.rollback()
    if [hit["chunk_id"] for hit in hits] != [stored["chunk_id"]]:
        raise BackendFault("the canary was stored but not found")
    return float(hits[0]["score"])
