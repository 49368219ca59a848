"""A server that goes away while it is connected to is unavailable, whatever asyncpg calls that."""

from typing import Any

import asyncpg
import pytest

from gateway.errors import DatabaseUnavailable
from gateway.store.pool import Database


class LostServer:
    """A pool that cannot connect."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def acquire(self) -> Any:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.exceptions.TargetServerAttributeNotMatched("none of the hosts match"),
        asyncpg.InternalClientError("unexpected"),
        asyncpg.InterfaceError("connection is closed"),
    ],
)
async def test_a_connection_that_cannot_be_made_is_no_fault_of_the_service(error: Exception) -> None:
    database = Database(LostServer(error), timeout_s=1, max_size=1, acts_as="system")  # type: ignore[arg-type]
    with pytest.raises(DatabaseUnavailable, match="no connection to PostgreSQL could be made"):
        async with database.acquire(1):
            pytest.fail("there is no connection")


class BrokenConnection:
    """A pool whose connection broke: it cannot be reset when it comes back."""

    async def acquire(self) -> Any:
        return self

    def begin_session(self) -> None:
        """As the pool's connections; it will not be reset."""

    async def release(self, connection: Any, **options: Any) -> None:
        raise asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")


async def test_a_connection_that_cannot_be_reset_does_not_hide_how_its_block_ended() -> None:
    database = Database(BrokenConnection(), timeout_s=1, max_size=1, acts_as="system")  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        async with database.acquire(1, autocommit=True):
            raise KeyError
    async with database.acquire(1, autocommit=True):
        pass
