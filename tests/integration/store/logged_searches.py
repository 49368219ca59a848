"""Searches in the log for the tests, as the gateway puts them there."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from store_samples import sha256

from gateway.store.api_key import ApiKey
from gateway.store.pool import Database
from gateway.store.search_log import AnsweredSearch, QueryKind, SearchLog, ShownHit

SPACE = "a" * 64


def text_of(chunk_id: int) -> bytes:
    """The hash that a chunk's text has where no chunk is stored."""
    return sha256(f"text of {chunk_id}")


def make_search(
    key: ApiKey,
    codebase_keys: Sequence[int],
    hits: Sequence[tuple[int, int]],
    *,
    texts: Sequence[bytes] = (),
    text: str = "what is sought",
    kind: QueryKind = "QUERY",
    like_chunk_id: int | None = None,
    vector_D: NDArray[np.float32] | None = None,
    space: str = SPACE,
) -> AnsweredSearch:
    """A search that showed `hits`, (chunk id, codebase key) each."""
    shas = texts or [text_of(chunk_id) for chunk_id, _ in hits]
    return AnsweredSearch(
        key_id=key.key_id,
        space=space,
        query_kind=kind,
        query_text=text,
        like_chunk_id=like_chunk_id,
        vector_D=vector_D,
        codebase_keys=codebase_keys,
        hits=[
            ShownHit(chunk_id, codebase_key, sha, 1.0 - rank / 100)
            for rank, ((chunk_id, codebase_key), sha) in enumerate(zip(hits, shas, strict=True), 1)
        ],
    )


async def write(database: Database, searches: Sequence[AnsweredSearch]) -> list[UUID]:
    """Log searches, and wait until they are written."""
    log = SearchLog(database)
    async with log.running():
        ids = [UUID(log.add(search)) for search in searches]
        for search_id in ids:
            await log.wait_for(search_id, timeout_s=10)
    return ids


async def set_time(database: Database, search_id: UUID, time: datetime) -> None:
    """Put a search into the past."""
    async with database.acquire(5) as connection:
        await connection.execute("UPDATE searches SET create_time = $2 WHERE search_id = $1", search_id, time)


def missing_id() -> UUID:
    """An id that no search has."""
    return UUID(bytes=secrets.token_bytes(16))
