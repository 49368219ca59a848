"""The pool of connections to PostgreSQL."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, Self

import asyncpg
from asyncpg.transaction import Transaction
from pgvector.asyncpg import register_vector

from gateway.errors import DatabaseUnavailable, DeadlineExceeded, StartupError
from gateway.store.caller import act_as_system, enter
from gateway.store.failures import CONNECTION_FAILURES, translate_failures
from gateway.store.statements import statements_traced
from gateway.telemetry.stages import Stage, stage

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]

_Actor = Literal["caller", "administrator", "system"]
# A connection whose server does not answer a cancellation within this is cut, not waited for.
_RELEASE_TIMEOUT_S = 2.0
# Of undoing and of giving back: how a block ended is what counts, not these.
_END_FAILURES: tuple[type[Exception], ...] = (
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresError,
    *CONNECTION_FAILURES,
)
# A peer whose machine or network is gone without a word is noticed within 30 s, on either side.
_PROBE_AFTER_S, _PROBE_EVERY_S, _PROBES = 10, 5, 4
_PEER_TIMEOUT_MS = (_PROBE_AFTER_S + _PROBE_EVERY_S * _PROBES) * 1000
SERVER_SETTINGS = {
    "tcp_keepalives_idle": str(_PROBE_AFTER_S),
    "tcp_keepalives_interval": str(_PROBE_EVERY_S),
    "tcp_keepalives_count": str(_PROBES),
    "tcp_user_timeout": str(_PEER_TIMEOUT_MS),
    # Of a process that lives and does nothing. Between the statements of a transaction nothing is waited for but the
    # event loop. What is held for hours, for a fill or an index, is a lock of the session and no transaction.
    "idle_in_transaction_session_timeout": "60s",
    # A statement that runs, such as a build of hours, or waits for a lock does not look at its connection by itself.
    "client_connection_check_interval": "10s",
}
"""What the server does for a gateway's sessions: it ends those of a gateway that is gone, and with them their locks."""
_SOCKET_OPTIONS = {
    "TCP_KEEPIDLE": _PROBE_AFTER_S,
    "TCP_KEEPINTVL": _PROBE_EVERY_S,
    "TCP_KEEPCNT": _PROBES,
    "TCP_USER_TIMEOUT": _PEER_TIMEOUT_MS,
}


class _Transaction(Transaction):
    """Does not wait for a server that does not undo it: cuts the connection, by which it is undone all the same."""

    __slots__ = ("_owner",)

    def __init__(self, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
        super().__init__(owner, isolation=None, readonly=False, deferrable=False)
        self._owner = owner

    async def __aexit__(self, extype: object, ex: object, tb: object) -> None:
        if extype is None:
            await super().__aexit__(extype, ex, tb)
            return
        try:
            async with asyncio.timeout(_RELEASE_TIMEOUT_S):
                await super().__aexit__(extype, ex, tb)
        except _END_FAILURES:  # TimeoutError, an OSError, is among them.
            self._owner.terminate()


class StoreConnection(asyncpg.Connection):
    """Resets itself before the pool takes it back only where it was used without transaction.

    Everything else ends with its transaction: settings are local to it, so are locks and cursors. The reset is a round
    trip, a tenth of a millisecond for each of the transactions of a search.
    """

    __slots__ = ("_is_session",)

    def transaction(self) -> _Transaction:  # type: ignore[override]  # nobody asks for more
        """One that ends; of the server's own isolation, READ COMMITTED."""
        return _Transaction(self)

    def begin_session(self) -> None:
        """Settings and locks may outlive a statement from here on; reset it once."""
        self._is_session = True

    def get_reset_query(self) -> str:
        """What the pool sends; nothing where there is nothing to undo."""
        if not getattr(self, "_is_session", False):
            return ""
        self._is_session = False
        return super().get_reset_query()


class Database:
    """A bounded pool; waiting for one of its connections is bounded too.

    It outlives the server: connections that were lost are made again when they are next asked for.

    Attributes:
        max_size: Connections at most.
        finished_count: Transactions that ended well, of those who use this object; others of its pool count their own.
    """

    def __init__(self, pool: "Pool", *, timeout_s: float, max_size: int, acts_as: _Actor = "caller") -> None:
        """Wrap a pool; use `connect`."""
        self._pool = pool
        self._timeout_s = timeout_s
        self.max_size = max_size
        self.finished_count = 0
        self._acts_as = acts_as

    def __repr__(self) -> str:
        return f"Database(busy={self.busy_count}, open={self._pool.get_size()}, max={self.max_size})"

    @property
    def open_count(self) -> int:
        """Connections that are open."""
        return self._pool.get_size()

    @property
    def busy_count(self) -> int:
        """Of these, those that somebody has."""
        return self._pool.get_size() - self._pool.get_idle_size()

    @classmethod
    async def connect(cls, url: str, *, min_size: int = 2, max_size: int = 10, timeout_s: float = 10.0) -> Self:
        """Connect to a database that has been migrated.

        Args:
            url: `postgresql://user:password@host:port/database`.
            min_size: Connections to open at once.
            max_size: Connections at most.
            timeout_s: How long connecting, and later waiting for a free connection, may take, seconds.

        Raises:
            DatabaseUnavailable: The server cannot be reached.
            StartupError: The database has no pgvector.
        """
        try:
            async with asyncio.timeout(timeout_s):
                with translate_failures():
                    pool = await asyncpg.create_pool(
                        url,
                        min_size=min_size,
                        max_size=max_size,
                        timeout=timeout_s,
                        init=_prepare,
                        connection_class=StoreConnection,
                        server_settings=SERVER_SETTINGS,
                    )
        except TimeoutError:
            raise DatabaseUnavailable(f"PostgreSQL did not accept a connection within {timeout_s:g} s") from None
        return cls(pool, timeout_s=timeout_s, max_size=max_size)

    def as_system(self) -> "Database":
        """The same pool for what is nobody's request: start-up, canary, index builds. No policy holds it."""
        return Database(self._pool, timeout_s=self._timeout_s, max_size=self.max_size, acts_as="system")

    def as_administrator(self) -> "Database":
        """The same pool for requests that only administrators may make, and that take more than their role.

        A transaction begins as that of any caller; the database itself must say that this is an administrator before
        the rest is done as the system. So a check that was forgotten before it costs nothing.
        """
        return Database(self._pool, timeout_s=self._timeout_s, max_size=self.max_size, acts_as="administrator")

    async def close(self) -> None:
        """Close all connections; those in use get the pool's timeout to come back, then are cut."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._pool.close()
        except CONNECTION_FAILURES:  # TimeoutError, an OSError, is among them.
            self._pool.terminate()

    @asynccontextmanager
    async def acquire(self, timeout_s: float, *, autocommit: bool = False) -> AsyncIterator["Connection"]:
        """Lend a connection for the length of the block, which is one transaction and must end within the timeout.

        The transaction is that of the caller whose key is acted with (`gateway.store.caller`), and row-level security
        holds it to what the caller may do; with `as_system` it may do everything. It is committed when the block ends,
        and undone when it raises. When the time is over, or the caller is cancelled, the running query is cancelled on
        the server too.

        Args:
            timeout_s: Budget for the wait and the block together, seconds.
            autocommit: Without transaction, for what PostgreSQL refuses inside one, such as VACUUM. Not for a caller,
                whose role ends with its transaction; an administrator is asked for in one of its own first.

        Yields:
            A connection with the codecs of pgvector.

        Raises:
            DeadlineExceeded: The block, or the wait, took longer than `timeout_s`.
            DatabaseUnavailable: The server cannot be reached, or no connection came free within the pool's limit.
            Unauthenticated: The key is unknown, or revoked or expired by now.
            PermissionDenied: The block wrote what its caller may not.
            AdminRequired: With `as_administrator` the caller is none.
        """
        if autocommit and self._acts_as == "caller":
            raise ValueError("a caller's role lasts as long as its transaction: it cannot do without")
        async with self._lend(timeout_s) as connection:
            if autocommit:
                if self._acts_as == "administrator":
                    async with connection.transaction():
                        await self._enter(connection)
                connection.begin_session()  # type: ignore[attr-defined]  # the proxy hands it on
                yield connection
            else:
                async with connection.transaction():
                    await self._enter(connection)
                    yield connection
        self.finished_count += 1

    async def _enter(self, connection: "Connection") -> None:
        if self._acts_as != "system":
            await enter(connection)
        if self._acts_as == "administrator":
            await act_as_system(connection)

    async def prove_caller(self, timeout_s: float) -> None:
        """Prove the key that is acted with, by one statement and no transaction: the role it gives ends with it.

        Raises:
            As `acquire`.
        """
        async with self._lend(timeout_s) as connection:
            await enter(connection)

    @asynccontextmanager
    async def _lend(self, timeout_s: float) -> AsyncIterator["Connection"]:
        with translate_failures():
            async with asyncio.timeout(timeout_s):
                with stage(Stage.QUEUE, "wait for a connection"):
                    connection = await self._take(timeout_s)
                with stage(Stage.DATABASE, "transaction", db__system__name="postgresql") as running:
                    try:
                        with statements_traced(connection, running.span):
                            yield connection
                    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
                        # Raised for misuse, but also for a connection that was lost under a transaction.
                        if _is_lost(connection):
                            raise DatabaseUnavailable(f"the connection to PostgreSQL was lost: {error}") from error
                        raise
                    finally:
                        await self._give_back(connection)

    async def _take(self, timeout_s: float) -> "Connection":
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._pool.acquire()
        except TimeoutError:
            if timeout_s <= self._timeout_s:
                raise DeadlineExceeded(f"no database connection came free within {timeout_s:g} s") from None
            raise DatabaseUnavailable(f"no database connection came free within {self._timeout_s:g} s") from None
        except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            # What asyncpg raises for a server that went away while it was connected to, beside the errors of sockets.
            raise DatabaseUnavailable(f"no connection to PostgreSQL could be made: {error}") from error

    async def _give_back(self, connection: "Connection") -> None:
        # A connection that cannot be reset is cut by the pool.
        with contextlib.suppress(*_END_FAILURES):
            await self._pool.release(connection, timeout=_RELEASE_TIMEOUT_S)


def _is_lost(connection: "Connection") -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        # The pool took it back from under its borrower, which it does only when the server is gone.
        return True


async def _prepare(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    probe_peer(connection)
    try:
        await register_vector(connection)
    except ValueError as error:
        raise StartupError(f"the database has no pgvector; run the migrations first ({error})") from error


def probe_peer(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Have the system find out that the server is gone, where a statement is waited for that takes hours."""
    transport: asyncio.Transport = connection._transport  # type: ignore[attr-defined]  # there is no other way to it
    peer: socket.socket = transport.get_extra_info("socket")
    if peer.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _SOCKET_OPTIONS.items():
        if (option := getattr(socket, name, None)) is not None:  # not every system has each
            peer.setsockopt(socket.IPPROTO_TCP, option, value)
