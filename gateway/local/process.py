"""Child processes: they log to a file, lead their own group, and do not outlive their parent."""

import asyncio
import contextlib
import errno
import os
import secrets
import signal
import socket
import sys
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path

from gateway.errors import StartupError
from gateway.local.account import Account
from gateway.local.log_file import tail

_DRAIN, _DRAIN_S = "DUOVEC_DRAIN_S", 10.0  # as gateway/settings.py has it
_END_S = 10.0
"""For what the gateway does after it has drained, such as writing the search log."""
WILDCARDS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104  # listening everywhere is probed on loopback

# The kernel sends a signal when the parent is gone, however it died. A launcher sets this up and then becomes the
# program, because a `preexec_fn` may deadlock in a process that has threads, and gRPC starts some. It also changes
# the account, which would undo the signal if it came later; the program's account may not be able to run this Python.
# The check of the parent closes the gap before prctl (PR_SET_PDEATHSIG is 1).
_LAUNCHER = (
    "import ctypes, os, sys; "
    "parent, number, uid, gid = map(int, sys.argv[1:5]); "
    "uid < 0 or (os.setgroups([]), os.setgid(gid), os.setuid(uid)); "
    "ctypes.CDLL(None).prctl(1, number, 0, 0, 0); "
    "os.getppid() == parent or sys.exit(1); "
    "os.execvp(sys.argv[5], sys.argv[5:])"
)


def launch_command(
    argv: Sequence[str], *, on_parent_death: signal.Signals = signal.SIGTERM, account: Account | None = None
) -> list[str]:
    """The command line that runs a program as a child that does not outlive this process.

    Args:
        argv: The program and its arguments.
        on_parent_death: What the program is sent when this process is gone.
        account: Who runs it; this process's own account when None.
    """
    uid, gid = (account.uid, account.gid) if account else (-1, -1)
    numbers = (os.getpid(), int(on_parent_death), uid, gid)
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, *map(str, numbers), *argv]


class ChildProcess:
    """A program run as the leader of its own session.

    A Ctrl-C in the terminal therefore reaches the parent only, which stops its children in order. Whatever the
    program itself started is killed with it, as far as it stayed in the group.

    Attributes:
        name: What messages call it.
        log_path: File with its stdout and stderr; the log of the run before, or what was cut from it, is kept
            beside it as `<name>.1`.
    """

    def __init__(self, name: str, argv: Sequence[str], *, env: Mapping[str, str], log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self._argv = list(argv)
        self._env = dict(env)
        self._exit: asyncio.Task[int] | None = None
        self._pid = 0

    @property
    def pid(self) -> int:
        """Process id, or 0 before the start."""
        return self._pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not exited."""
        return self._exit is not None and not self._exit.done()

    async def start(self) -> None:
        """Start the program; returns at once, ready or not.

        Raises:
            OSError: The log cannot be written.
        """
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_name(self.log_path.name + ".1"))
        # Whoever cuts it while the program runs must find that it appends.
        with self.log_path.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *launch_command(self._argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,
            )
        self._pid = process.pid
        self._exit = asyncio.create_task(self._reap(process), name=f"reap {self.name}")

    async def _reap(self, process: asyncio.subprocess.Process) -> int:
        code = await process.wait()
        self._signal_group(signal.SIGKILL)
        return code

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, number)

    async def wait_ready(self, probe: Coroutine[None, None, None], *, timeout_s: float) -> int | None:
        """Wait until a probe of the started program returns, and stop waiting at once when the program exits.

        Args:
            probe: Returns when the program is ready.
            timeout_s: How long that may take, seconds.

        Returns:
            None when it is ready; when it exited instead, its exit status as `wait` gives it.

        Raises:
            TimeoutError: It runs, but was not ready in time.
        """
        ready = asyncio.create_task(probe)
        exited = asyncio.create_task(self.wait())
        try:
            await asyncio.wait({ready, exited}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if exited.done():
                return exited.result()
            if not ready.done():
                raise TimeoutError(f"{self.name} was not ready after {timeout_s:g} s")
            ready.result()
            return None
        finally:
            ready.cancel()
            exited.cancel()
            await asyncio.gather(ready, exited, return_exceptions=True)

    async def wait(self) -> int:
        """Wait until the program exits.

        Returns:
            Its exit code, or the negative number of the signal that killed it.

        Raises:
            RuntimeError: It was never started.
        """
        if self._exit is None:
            raise RuntimeError(f"{self.name} was not started")
        return await asyncio.shield(self._exit)

    async def stop(self, *, grace_s: float) -> None:
        """Ask the program to exit with SIGTERM, and kill its group if it has not after `grace_s` seconds."""
        if self._exit is None:
            return
        if not self._exit.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(self._exit), grace_s)
        except TimeoutError:
            self._signal_group(signal.SIGKILL)
            await self._exit

    def log_tail(self, line_count: int = 20) -> str:
        """The last lines of the log, or an empty string when there is none."""
        return tail(self.log_path, line_count)


def describe_exit(code: int) -> str:
    """An exit status in words: `exit code 1` or `killed by SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


async def wait_for_listener(host: str, port: int, *, poll_s: float = 0.05) -> None:
    """Wait until someone listens on a TCP port.

    A gRPC channel that is refused once waits a second before it tries again; asking first is faster.
    """
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(poll_s)
            continue
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, and that the system gives to nobody else there for a minute.

    A connection that was closed lingers on it: of 127.0.0.1, and of all addresses, the system chooses no such port,
    but any server that sets SO_REUSEADDR, as all do that are to be started again, may ask for it by its number.
    """
    with socket.socket() as listener, socket.socket() as caller:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        caller.connect(listener.getsockname())
        accepted, _ = listener.accept()
        # The side that closes first is the one on which it lingers.
        accepted.close()
        port: int = listener.getsockname()[1]
        return port


def split_address(address: str) -> tuple[str, int]:
    """Split `host:port`.

    Raises:
        StartupError: It is not of that form, or the port is not 0 to 65535.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise StartupError(f"{address!r} is not an address such as 127.0.0.1:50051")
    return host, int(port)


def check_port_is_free(address: str, *, option: str = "--listen") -> None:
    """Check that nobody listens on an address yet.

    gRPC would share the port with another gRPC server without a word, and calls would go to either.

    Args:
        address: `host:port`.
        option: What chooses another one.

    Raises:
        StartupError: Somebody does, or the host is not one of this machine; names the process where it may be seen.
    """
    host, port = split_address(address)
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as sock:
            # Connections that a server before has closed linger on the port, and are no reason to refuse it.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(target)
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE:
            raise StartupError(f"cannot listen on {address}: {exc.strerror}") from exc
        holder = port_holder(port)
        by = f" by process {holder}" if holder else ""
        raise StartupError(f"port {port} is in use{by}: stop that, or choose another port with {option}") from exc


def port_holder(port: int) -> str:
    """Who listens on a TCP port, such as `4711 (python)`; empty when nobody does or the system does not tell."""
    import psutil

    try:
        connections = psutil.net_connections(kind="tcp")
        for connection in connections:
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if listens and connection.pid:
                return f"{connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:
        return ""
    return ""


def _drain_s(environment: Mapping[str, str]) -> float:
    try:
        return float(environment.get(_DRAIN, _DRAIN_S))
    except ValueError:
        # The gateway refuses it as it starts.
        return _DRAIN_S


class GatewayServer:
    """The gateway server of this Python environment, as a child process.

    Attributes:
        url: `host:port` that it listens on.
    """

    def __init__(
        self,
        listen: str,
        environment: Mapping[str, str],
        *,
        log_path: Path,
        name: str = "gateway",
        own_address: str | None = None,
    ) -> None:
        """Describe the server; nothing is started.

        Args:
            listen: `host:port` for it to listen on.
            environment: Its settings, `DUOVEC_…`, over the environment of this process.
            log_path: File to log to.
            name: What messages call it.
            own_address: Its DUOVEC_OWN_LISTEN, where it is asked for its health: at `listen` another process might
                answer for it, or want a certificate. A name nobody has when None; nothing is left behind of it.
        """
        self.url = listen
        self._own_address = own_address or f"unix-abstract:duovec-{secrets.token_hex(8)}"
        settings = {**environment, "DUOVEC_LISTEN": listen, "DUOVEC_OWN_LISTEN": self._own_address}
        argv = [sys.executable, "-m", "gateway.server"]
        env = {**os.environ, **settings}
        self._grace_s = _drain_s(env) + _END_S
        self._process = ChildProcess(f"the {name}", argv, env=env, log_path=log_path)

    @property
    def pid(self) -> int:
        """Process id, or 0 before the start."""
        return self._process.pid

    async def start(self, *, timeout_s: float = 60) -> None:
        """Start the server and wait until its health service says SERVING.

        Args:
            timeout_s: How long that may take, seconds.

        Raises:
            StartupError: It exited or was not ready in time; carries the last line of its log.
        """
        await self._process.start()
        try:
            code = await self._process.wait_ready(self._wait_serving(), timeout_s=timeout_s)
        except TimeoutError as exc:
            raise StartupError(f"{exc}{self._last_words()}") from exc
        if code is not None:
            raise StartupError(f"{self._process.name} did not start ({describe_exit(code)}){self._last_words()}")

    async def wait(self) -> int:
        """Wait until it exits; gives its exit status as `ChildProcess.wait` does."""
        return await self._process.wait()

    async def stop(self, *, grace_s: float | None = None) -> None:
        """Let it drain for up to `grace_s` seconds; for as long as its DUOVEC_DRAIN_S says, and to end, when None."""
        await self._process.stop(grace_s=self._grace_s if grace_s is None else grace_s)

    def _last_words(self) -> str:
        last_line = self._process.log_tail(1)
        return (
            f": {last_line} (log: {self._process.log_path})"
            if last_line
            else f"; its log is empty: {self._process.log_path}"
        )

    async def _wait_serving(self) -> None:
        import grpc
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        # Nobody listens there yet, and gRPC would wait longer after each attempt.
        backoff = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100)]
        async with grpc.aio.insecure_channel(self._own_address, backoff) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    reply = await check(health_pb2.HealthCheckRequest(service=""), timeout=2)
                    if reply.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                await asyncio.sleep(0.05)
