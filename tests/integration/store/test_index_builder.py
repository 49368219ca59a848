"""The task that builds HNSW indexes beside the service."""

import asyncio
import logging

import pytest

from gateway.spaces.index_builder import IndexBuilder
from gateway.spaces.serving import ServedSpace, Serving
from gateway.store.pool import Database
from gateway.store.rows import SpaceRow
from gateway.store.spaces import SpaceStore
from gateway.store.word_counts import WordCounts


async def test_it_outlives_an_error_of_the_database(
    database: Database, space: SpaceRow, caplog: pytest.LogCaptureFixture
) -> None:
    """Dead, it would say so only at the shutdown, and no index would ever be built again."""
    spaces = SpaceStore(database)
    active = ServedSpace(space.space_key, None)  # type: ignore[arg-type]
    builder = IndexBuilder(spaces, WordCounts(database), Serving(spaces, None, active))  # type: ignore[arg-type]
    async with database.acquire(5) as connection:
        await connection.execute("ALTER TABLE embeddings RENAME TO gone")
    with caplog.at_level(logging.WARNING, logger="gateway.spaces.index_builder"):
        task = asyncio.create_task(builder.run())
        while not task.done() and not caplog.records:
            await asyncio.sleep(0.01)
    assert not task.done()
    [record] = caplog.records
    assert 'relation "embeddings" does not exist' in str(record.exc_info)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
