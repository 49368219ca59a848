"""What a gateway's process holds, seen from outside."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import asyncpg
import psutil

MEGABYTE = 1024 * 1024
_BUSY = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND state NOT IN ('idle', 'disabled')"
)


@dataclass(frozen=True)
class Held:
    """At one moment.

    Attributes:
        files: Open ones, but for connections to the database.
        connections: Those: its pool opens one after the other, up to its limit.
    """

    files: int
    connections: int
    threads: int
    rss_mb: float


class Gauge:
    """Looks at one process."""

    def __init__(self, pid: int, database_url: str) -> None:
        self._process = psutil.Process(pid)
        self._database_port = urlsplit(database_url).port
        self.most_rss_mb = 0.0

    def held(self) -> Held:
        """What it holds now."""
        with self._process.oneshot():
            connections = self._process.net_connections()
            count = sum(bool(one.raddr) and one.raddr.port == self._database_port for one in connections)
            return Held(self._process.num_fds() - count, count, self._process.num_threads(), self._rss_mb())

    def _rss_mb(self) -> float:
        return round(self._process.memory_info().rss / MEGABYTE, 1)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Keep in `most_rss_mb` the most memory that it takes during the block."""
        self.most_rss_mb = self._rss_mb()

        async def watch() -> None:
            while True:
                self.most_rss_mb = max(self.most_rss_mb, self._rss_mb())
                await asyncio.sleep(0.05)

        task = asyncio.create_task(watch())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def busy_connections(database_url: str) -> int:
    """Sessions of a database that do something, or stand in a transaction."""
    connection = await asyncpg.connect(database_url)
    try:
        return int(await connection.fetchval(_BUSY))
    finally:
        await connection.close()
