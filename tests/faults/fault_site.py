"""What the fault tests break: PostgreSQL and Triton that they share, a database of its own for each, and gateways."""

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from fault_caller import API_KEY, Parts
from pydantic import SecretStr

from gateway.local.postgres import Postgres
from gateway.local.process import GatewayServer, free_port
from gateway.local.triton import Triton
from gateway.server import serve
from gateway.settings import Settings

ENCODERS = ("compact-code", "compact-text")
_numbers = itertools.count()


def alive(pid: int) -> bool:
    """Whether a child of ours runs; one that has exited was reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@dataclass
class Backends:
    """One PostgreSQL and one Triton, which any test may kill, stop or starve."""

    postgres: Postgres
    triton: Triton
    repository: Path
    root: Path

    async def mend(self) -> None:
        """Have both run again, whatever a test did to them."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.triton.pid, signal.SIGCONT)
        for part in (self.postgres, self.triton):
            if not alive(part.pid):
                await part.stop()
                await part.start()

    @asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """An empty database for the block; gives its URL."""
        name = f"faults_{next(_numbers)}"
        await self._execute(f"CREATE DATABASE {name}")
        yield self.postgres.url.rsplit("/", 1)[0] + f"/{name}"
        await self.mend()
        await self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.postgres.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def gateway(
        self, database_url: str, name: str = "gateway", *, own_address: str | None = None, **settings: str
    ) -> GatewayServer:
        """A gateway as a process of its own, not started; its log is `root/NAME.log`."""
        environment = {
            "DUOVEC_DATABASE_URL": database_url,
            "DUOVEC_TRITON_URL": self.triton.url,
            "DUOVEC_MODEL_REPOSITORY": str(self.repository),
            "DUOVEC_ADMIN_KEY": API_KEY,
            "DUOVEC_DRAIN_S": "1",
        }
        environment |= {f"DUOVEC_{key.upper()}": value for key, value in settings.items()}
        listen = environment.pop("DUOVEC_LISTEN", f"127.0.0.1:{free_port()}")
        return GatewayServer(listen, environment, log_path=self.log_path(name), own_address=own_address)

    def log_path(self, name: str = "gateway") -> Path:
        """Where a gateway's process logs to."""
        return self.root / f"{name}.log"


@asynccontextmanager
async def serving(
    postgres: Postgres, triton: Triton, repository: Path, database_url: str, **changes: object
) -> AsyncIterator[Parts]:
    """A gateway inside this process for the block."""
    settings = Settings(
        database_url=database_url,
        triton_url=triton.url,
        model_repository=repository,
        listen="127.0.0.1:0",
        admin_key=SecretStr(API_KEY),
        drain_s=1,
        **changes,  # type: ignore[arg-type]
    )
    async with serve(settings) as port:
        yield Parts(postgres, triton, f"127.0.0.1:{port}", database_url)


async def until(condition: "object", *, timeout_s: float = 60, pause_s: float = 0.02) -> None:
    """Wait until an asynchronous or plain condition holds."""
    async with asyncio.timeout(timeout_s):
        while True:
            held = condition()  # type: ignore[operator]
            if await held if asyncio.iscoroutine(held) else held:
                return
            await asyncio.sleep(pause_s)
