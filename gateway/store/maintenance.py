"""What the database says of its tables and indexes; needs no superuser and no extension."""

from gateway.store.maintenance_advice import Advice, IndexStatus, ServerStatus, StandbySpace, TableStatus, advise
from gateway.store.pool import Database
from gateway.store.queries import load_queries

_QUERIES = load_queries("maintenance.sql")


class MaintenanceStore:
    """Reads statistics; changes nothing."""

    def __init__(self, database: Database) -> None:
        """Args: database: As the system."""
        self._database = database

    async def inspect(self, *, timeout_s: float) -> tuple[list[TableStatus], list[Advice]]:
        """Get the tables, largest first, and what had better be done, the gravest first.

        Raises:
            DeadlineExceeded: It took longer than `timeout_s`.
            DatabaseUnavailable: The server cannot be reached.
        """
        async with self._database.acquire(timeout_s) as connection:
            tables = [TableStatus(**record) for record in await connection.fetch(_QUERIES["list_tables"])]
            indexes = [IndexStatus(**record) for record in await connection.fetch(_QUERIES["list_indexes"])]
            spaces = [StandbySpace(**record) for record in await connection.fetch(_QUERIES["list_standby_spaces"])]
            [server] = [ServerStatus(**record) for record in await connection.fetch(_QUERIES["get_server"])]
        return tables, advise(server, tables, indexes, spaces)
