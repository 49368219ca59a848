"""The statements of a transaction in a trace: their SQL, which has no values in it, and how long they took."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import asyncpg
from asyncpg.connection import LoggedQuery

from gateway.telemetry.stages import Span

if TYPE_CHECKING:
    from gateway.store.pool import Connection

_MAX_SQL_CHARACTERS = 2000


@contextmanager
def statements_traced(connection: "Connection", transaction: Span | None) -> Iterator[None]:
    """Make each statement of the block a part of the transaction's span; nothing where there is none."""
    if transaction is None:
        yield
        return

    def note(logged: LoggedQuery) -> None:
        attributes = {"db.system.name": "postgresql", "db.query.text": logged.query[:_MAX_SQL_CHARACTERS]}
        transaction.begin("statement", attributes, began_s_ago=logged.elapsed).end(logged.exception)

    connection.add_query_logger(note)
    try:
        yield
    finally:
        # A connection that was lost has been taken back by the pool.
        with contextlib.suppress(asyncpg.InterfaceError):
            connection.remove_query_logger(note)
