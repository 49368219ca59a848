"""The whole of duovec on one machine: PostgreSQL, Triton and the gateway as child processes, in order."""

import asyncio
import os
import re
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from gateway.concurrency import run_all
from gateway.errors import DuovecError, StartupError
from gateway.local.claim import claim_data_dir
from gateway.local.log_file import keep_small
from gateway.local.models import PAIRS, describe_settings, verify_repository
from gateway.local.part import Part, PartEvent, PartState, StackFailure, until_it_fails
from gateway.local.postgres import Postgres
from gateway.local.process import WILDCARDS, GatewayServer, check_port_is_free, free_port, split_address
from gateway.local.triton import Triton
from gateway.wire import ALLOW_INSECURE, allows_insecure, is_local

MAX_GATEWAYS = 4
"""PostgreSQL is set up for so many: each may have 10 of its 50 connections."""

_RESTART_DELAYS_S = (0.0, 1.0, 2.0, 4.0)
"""Before a part is started again. What fails more often than this within `_RESTART_MEMORY_S` is beyond help."""
_RESTART_MEMORY_S = 600.0


@dataclass(frozen=True)
class StackSettings:
    """Where a stack keeps its things and where it listens.

    Attributes:
        data_dir: Folder for the database, logs and work files; one stack at a time uses it.
        model_repository: The published models; `data_dir/model_repository` when None.
        listen: `host:port` of the gateway; port 0 takes a free one.
        pair: Which two encoders to serve, a key of `gateway.local.models.PAIRS`.
        gateways: Gateway processes behind `listen`, 1 to `MAX_GATEWAYS`.
        metrics_listen: `host:port` of the first gateway's metrics; port 0 takes free ones, others the next numbers.
        http_listen: `host:port` of HTTP, which all gateways share; port 0 takes a free one.
        triton_traces_url: Where Triton sends spans, by OTLP over HTTP; None for nowhere.
    """

    data_dir: Path
    model_repository: Path | None = None
    listen: str = "127.0.0.1:50051"
    pair: str = "compact"
    gateways: int = 1
    metrics_listen: str = "127.0.0.1:0"
    http_listen: str = "127.0.0.1:0"
    triton_traces_url: str | None = None

    def __post_init__(self) -> None:
        for address in (self.listen, self.metrics_listen, self.http_listen):
            split_address(address)
        url = self.triton_traces_url
        if url is not None and re.fullmatch(r"https?://[^/\s]+/\S+", url) is None:
            # Triton would start, and every span be lost.
            raise StartupError(f"{url!r} is not a URL such as http://127.0.0.1:4318/v1/traces")
        if not 1 <= self.gateways <= MAX_GATEWAYS:
            raise StartupError(f"{self.gateways} gateways were asked for; use 1 to {MAX_GATEWAYS}")

    @property
    def repository(self) -> Path:
        """The model repository in use."""
        return self.model_repository or self.data_dir / "model_repository"

    @property
    def encoders(self) -> tuple[str, str]:
        """The models that Triton serves: code encoder, text encoder."""
        return PAIRS[self.pair]


class Stack:
    """PostgreSQL, Triton and the gateway; `async with Stack(settings) as stack` runs them for the block.

    Attributes:
        endpoint: `host:port` of the gateway.
        reachable_at: The same, with an address of this machine where the gateway listens on all of them.
        metrics_endpoints: `host:port` of each gateway's metrics.
        http_endpoint: `host:port` of HTTP.
        admin_key_file: Where the gateway leaves the key of its administrator.
        api_key: That key; empty before the start.
    """

    def __init__(self, settings: StackSettings, *, on_event: Callable[[PartEvent], None] = lambda event: None) -> None:
        """Describe the stack; nothing is started.

        Args:
            settings: Where it keeps its things and where it listens.
            on_event: Called in the event loop with each change of a part's state; must not block.
        """
        self._settings = settings
        self._emit = on_event
        self.endpoint = _numbered(settings.listen)
        self.http_endpoint = _numbered(settings.http_listen)
        self._gateways = ["gateway", *(f"gateway-{number}" for number in range(2, settings.gateways + 1))]
        host, port = split_address(settings.metrics_listen)
        self.metrics_endpoints = [
            f"{host}:{port + number if port else free_port()}" for number in range(settings.gateways)
        ]
        self.reachable_at = _reachable(self.endpoint)
        self.api_key = ""
        self.admin_key_file = settings.data_dir / "admin.key"
        self._parts: dict[str, Part] = {}
        self._addresses: dict[str, Callable[[], str]] = {}
        self._watchers: dict[str, asyncio.Task[str]] = {}
        self._restarted_at: dict[str, deque[float]] = {}
        self._lock: IO[str] | None = None
        self._keeping_logs: asyncio.Task[None] | None = None

    @property
    def http_url(self) -> str:
        """Of HTTP, as this machine reaches it."""
        return f"{'https' if _has_tls() else 'http'}://{_reachable(self.http_endpoint)}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Check the models, start every part, and return when the gateway serves.

        Raises:
            StartupError: Another stack uses the data directory, the port is taken or would be open to others without
                TLS, a model is not intact, or a part does not start. What had started is stopped again.
            StackFailure: A part that was ready died while another started.
        """
        try:
            self._refuse_open_port()
            self._lock = claim_data_dir(self._settings.data_dir)
            self._keeping_logs = asyncio.create_task(keep_small(self._settings.data_dir / "logs"))
            check_port_is_free(self.endpoint)
            check_port_is_free(self.http_endpoint, option="--http-listen")
            await self._verify_models()
            await self._start_backends()
            await self._unless_a_part_dies(self._start_gateways())
            self.api_key = self.admin_key_file.read_text().strip()
        except BaseException:
            await self.stop()
            raise

    async def run_until(self, stop_event: asyncio.Event) -> None:
        """Watch the parts until the event is set, and start what has died, or does not answer, again.

        Args:
            stop_event: Ends the watch; the caller stops the stack.

        Raises:
            StackFailure: A part fails again and again.
        """
        stopping = asyncio.create_task(_wait_for(stop_event))
        restarts: set[asyncio.Task[None]] = set()
        try:
            while not stopping.done():
                await asyncio.wait({stopping, *restarts, *self._watchers.values()}, return_when=asyncio.FIRST_COMPLETED)
                for restart in [task for task in restarts if task.done()]:
                    restarts.remove(restart)
                    restart.result()
                for failure in self._failures():
                    restarts.add(asyncio.create_task(self._restart(failure)))
        finally:
            for task in (stopping, *restarts):
                task.cancel()
            await asyncio.gather(stopping, *restarts, return_exceptions=True)

    async def _restart(self, failure: StackFailure) -> None:
        """Start a part again, each time after a longer pause.

        Raises:
            StackFailure: It was started again too often lately.
        """
        name = failure.part
        part, lately = self._parts[name], self._restarted_at.setdefault(name, deque())
        while True:
            now = time.monotonic()
            while lately and lately[0] < now - _RESTART_MEMORY_S:
                lately.popleft()
            if len(lately) == len(_RESTART_DELAYS_S):
                raise failure
            lately.append(now)
            await asyncio.sleep(_RESTART_DELAYS_S[len(lately) - 1])
            # One that hangs hears nothing.
            await part.stop(grace_s=1)
            try:
                await self._start_part(name, part, self._addresses[name])
            except DuovecError as exc:
                failure = StackFailure(name, f"does not start again ({exc})", log_path=self._log_path(name))
            else:
                return

    async def stop(self) -> None:
        """Stop the gateways, which drain, then Triton, then PostgreSQL, each in its time; harmless if nothing runs."""
        await asyncio.gather(*(self._stop_part(name) for name in self._gateways))
        await self._stop_part("triton")
        await self._stop_part("postgres")
        if self._keeping_logs is not None:
            self._keeping_logs.cancel()
            await asyncio.gather(self._keeping_logs, return_exceptions=True)
            self._keeping_logs = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def _stop_part(self, name: str) -> None:
        part = self._parts.pop(name, None)
        if part is None:
            return
        watcher = self._watchers.pop(name, None)
        was_running = watcher is not None and not watcher.done()
        if was_running:
            self._emit(PartEvent(name, PartState.STOPPING))
        await part.stop()
        if watcher is not None:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
        if was_running:
            self._emit(PartEvent(name, PartState.STOPPED))

    def _refuse_open_port(self) -> None:
        """The gateway would refuse it, too, but only once PostgreSQL and Triton had been started."""
        for address in (self.endpoint, self.http_endpoint):
            if not (is_local(address) or _has_tls() or allows_insecure(os.environ)):
                raise StartupError(
                    f"{address} is neither loopback nor a unix socket, and without TLS all could be read on the way; "
                    f"set DUOVEC_TLS_CERTIFICATE and DUOVEC_TLS_KEY, or {ALLOW_INSECURE}=true where something else "
                    "encrypts"
                )

    async def _verify_models(self) -> None:
        settings = self._settings
        self._emit(PartEvent("models", PartState.STARTING, "comparing digests"))
        try:
            versions = await asyncio.to_thread(verify_repository, settings.repository, settings.encoders)
            cores = len(os.sched_getaffinity(0))
            running = describe_settings(settings.repository, settings.encoders, cores=cores)
        except StartupError as exc:
            self._emit(PartEvent("models", PartState.FAILED, str(exc)))
            raise
        self._emit(PartEvent("models", PartState.READY, f"{', '.join(versions)}; {running}"))

    async def _start_backends(self) -> None:
        """Start PostgreSQL and Triton at the same time; the failure of one ends the start of the other."""
        data_dir = self._settings.data_dir
        postgres = Postgres(
            data_dir / "postgres",
            log_path=self._log_path("postgres"),
            on_wait=lambda why: self._emit(PartEvent("postgres", PartState.STARTING, why)),
        )
        triton = Triton(
            self._settings.repository,
            self._settings.encoders,
            work_dir=data_dir / "triton",
            log_path=self._log_path("triton"),
            traces_url=self._settings.triton_traces_url,
        )
        await run_all(
            [
                self._start_part("postgres", postgres, lambda: f"127.0.0.1:{postgres.port}"),
                self._start_part("triton", triton, lambda: triton.url),
            ]
        )
        self._gateway_environment = {
            "DUOVEC_DATABASE_URL": postgres.url,
            "DUOVEC_TRITON_URL": triton.url,
            "DUOVEC_MODEL_REPOSITORY": str(self._settings.repository.resolve()),
            "DUOVEC_LISTEN": self.endpoint,
            "DUOVEC_ADMIN_KEY_FILE": str(self.admin_key_file),
            "DUOVEC_CODE_ENCODER": self._settings.encoders[0],
            "DUOVEC_TEXT_ENCODER": self._settings.encoders[1],
        }

    async def _start_gateways(self) -> None:
        """Start the first one, which migrates the database and makes the key, and then the others at once."""
        first, *others = self._gateways
        await self._start_gateway(first)
        await run_all(self._start_gateway(name) for name in others)

    async def _start_gateway(self, name: str) -> None:
        environment = self._gateway_environment | {
            "DUOVEC_METRICS_LISTEN": self.metrics_endpoints[self._gateways.index(name)],
            "DUOVEC_HTTP_LISTEN": self.http_endpoint,
        }
        if len(self._gateways) > 1:
            environment = environment | {"DUOVEC_REUSE_PORT": "true"}
        gateway = GatewayServer(self.endpoint, environment, log_path=self._log_path(name), name=name)
        await self._start_part(name, gateway, lambda: self.endpoint)

    def _log_path(self, part: str) -> Path:
        return self._settings.data_dir / "logs" / f"{part}.log"

    async def _start_part(self, name: str, part: Part, address: Callable[[], str]) -> None:
        self._emit(PartEvent(name, PartState.STARTING))
        self._parts[name], self._addresses[name] = part, address
        try:
            await part.start()
        except DuovecError as exc:
            self._emit(PartEvent(name, PartState.FAILED, str(exc)))
            raise
        self._watchers[name] = asyncio.create_task(until_it_fails(part), name=f"watch {name}")
        self._emit(PartEvent(name, PartState.READY, address(), part.pid))

    async def _unless_a_part_dies(self, work: Coroutine[None, None, None]) -> None:
        """Finish `work`, unless a part that is already ready dies first."""
        task = asyncio.create_task(work)
        try:
            await asyncio.wait({task, *self._watchers.values()}, return_when=asyncio.FIRST_COMPLETED)
            for failure in self._failures():
                raise failure
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _failures(self) -> list[StackFailure]:
        """Forget the watchers of parts that failed, and say so."""
        failures = []
        for name in [name for name, watcher in self._watchers.items() if watcher.done()]:
            what = self._watchers.pop(name).result()
            failures.append(StackFailure(name, what, log_path=self._log_path(name)))
            self._emit(PartEvent(name, PartState.FAILED, str(failures[-1])))
        return failures


def _has_tls() -> bool:
    return bool(os.environ.get("DUOVEC_TLS_CERTIFICATE"))


def _numbered(address: str) -> str:
    """An address with a port that is free now in place of 0."""
    host, port = split_address(address)
    return f"{host}:{port or free_port()}"


def _reachable(address: str) -> str:
    """An address with one of this machine where it stands for all of them."""
    host, port = split_address(address)
    return f"{WILDCARDS.get(host, host)}:{port}"


async def _wait_for(event: asyncio.Event) -> None:
    await event.wait()
