"""What fails while a database is read: the database, or whoever makes something of its rows."""

from typing import Any

import asyncpg
import pytest

from training.data.stored import snapshot
from training.errors import TrainingError

URL = "postgresql://owner:secret@host/duovec"


class _Connection:
    """Says of a statement what it is told to, and whether it was closed."""

    closed = False
    fails: BaseException | None = None

    def transaction(self, **_: object) -> "_Connection":
        return self

    async def start(self) -> None:
        pass

    async def fetch(self, statement: str, *arguments: object) -> list[Any]:
        if self.fails is not None:
            raise self.fails
        return [{"statement": statement, "arguments": arguments}]

    async def close(self, *, timeout: float) -> None:  # noqa: ASYNC109
        self.closed = True


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> _Connection:
    connection = _Connection()

    async def connect(*_: object, **__: object) -> _Connection:
        return connection

    monkeypatch.setattr(asyncpg, "connect", connect)
    return connection


@pytest.mark.parametrize("fault", [ValueError("a bad row"), OSError("no such file"), TimeoutError("elsewhere")])
async def test_a_fault_of_who_reads_is_not_the_database_s(fault: Exception, connection: _Connection) -> None:
    """It would send people to look at a database that did nothing."""
    with pytest.raises(type(fault)) as raised:
        async with snapshot(URL) as database:
            assert await database.fetch("SELECT $1", 3) == [{"statement": "SELECT $1", "arguments": (3,)}]
            raise fault
    assert raised.value is fault
    assert connection.closed


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (ConnectionResetError("reset"), "cannot read postgresql://host/duovec: reset; --database-url names"),
        (TimeoutError(), "cannot read postgresql://host/duovec: TimeoutError; --database-url names"),
        (asyncpg.UndefinedTableError("no chunks"), "lacks a table .*; start this version's gateway on it once"),
        (ValueError("not an integer"), "the database postgresql://host/duovec refuses: not an integer"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_query_that_fails_names_the_database(fault: Exception, told: str, connection: _Connection) -> None:
    """Without the password; asyncpg's own words are for whoever wrote the query."""
    connection.fails = fault
    with pytest.raises(TrainingError, match=told):
        async with snapshot(URL) as database:
            await database.fetch("SELECT")
    assert connection.closed
