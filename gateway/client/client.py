"""The clients of the service: one method an RPC, each written once for both (`gateway.client.dual`)."""

import functools
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, ClassVar, Concatenate, Generic, Literal, ParamSpec, Self, TypeVar, overload

from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from duovec.v1 import status_service_pb2 as status_pb
from gateway.client.access import Access
from gateway.client.blocking import BlockingTransport
from gateway.client.codebases import Codebases
from gateway.client.connection import Connection
from gateway.client.dual import Blocking, Mode, Suspending, dual, run
from gateway.client.embedding import Embedding
from gateway.client.rpc import Rpc
from gateway.client.searching import Searching
from gateway.client.spaces import Spaces
from gateway.client.suspending import SuspendingTransport
from gateway.client.target import Target
from gateway.client.tls import ClientTls
from gateway.client.training import Training

_P = ParamSpec("_P")
_T = TypeVar("_T")

HealthStatus = Literal["SERVING", "NOT_SERVING", "UNKNOWN"]

# The wrappers are wire-compatible with grpc.health.v1 (a string and an enum in field 1), and save the client a
# dependency.
_CHECK = Rpc("grpc.health.v1.Health/Check", Int32Value)
_GET_STATUS = Rpc("duovec.v1.StatusService/GetStatus", status_pb.GetStatusResponse)


class _Service(Embedding[Mode], Searching[Mode], Codebases[Mode]):
    """What both clients are.

    Calls that only read, or that may be repeated without harm, are repeated when the service is overloaded or away,
    after the delay that it asks for, within their deadline. Every method raises ClientError when its call fails.

    Attributes:
        access: Principals, API keys and grants.
        spaces: Which encoders made the vectors that are searched, and changing to others.
        training: Runs that fine-tune the encoders.
    """

    _transport: ClassVar[type[BlockingTransport] | type[SuspendingTransport]]

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        api_key: str | None = None,
        tls: ClientTls | None = None,
        timeout_s: float = 60.0,
        max_attempts: int = 4,
        on_timing: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        """Prepare the connection; nothing is sent yet.

        Args:
            endpoint: `host:port`, or `https://host:port` for TLS; None means 127.0.0.1:50051.
            api_key: Sent as `authorization: Bearer`; None takes DUOVEC_API_KEY, or else the key that is kept for this
                endpoint (`gateway.client.credentials`), which `duovec up` does. It leaves this machine encrypted only,
                unless DUOVEC_ALLOW_INSECURE is `true`.
            tls: Certificates for `https://`; None takes those that DUOVEC_CA_FILE, DUOVEC_CLIENT_CERTIFICATE and
                DUOVEC_CLIENT_KEY name, and without these trusts the public authorities.
            timeout_s: Deadline of each call with its repetitions, seconds.
            max_attempts: How often a call is made at most. Four take 0.7 s at least, so that it is soon noticed that no
                service runs; ten take 21 s, longer than a gateway that restarts is away.
            on_timing: Told after each call that was answered how long the service was about what, in milliseconds, as
                `gateway.client.timing.stage_times_ms` gives it; not of streams.

        Raises:
            ClientError: A certificate or key cannot be used, the endpoint is not one for `tls`, the API key could be
                read on its way there, or this is a fork of a process that used an AsyncClient.
        """
        target = Target.of(endpoint, api_key, tls)
        self._share(
            Connection(
                target,
                type(self)._transport(target),
                timeout_s=timeout_s,
                max_attempts=max_attempts,
                on_timing=on_timing,
            )
        )

    def _share(self, connection: Connection) -> None:
        super().__init__(connection, blocks=self._blocks)
        self.access: Access[Mode] = Access(connection, blocks=self._blocks)
        self.spaces: Spaces[Mode] = Spaces(connection, blocks=self._blocks)
        self.training: Training[Mode] = Training(connection, blocks=self._blocks)

    @property
    def endpoint(self) -> str:
        """Where it goes, as it was given."""
        return self._connection.target.endpoint

    @dual
    async def health(self) -> HealthStatus:
        """Ask the standard health service about the server as a whole."""
        reply = await self._connection.call(_CHECK, StringValue())
        statuses: dict[int, HealthStatus] = {1: "SERVING", 2: "NOT_SERVING"}
        return statuses.get(reply.value, "UNKNOWN")

    @dual
    async def status(self) -> status_pb.GetStatusResponse:
        """The state of the cache, of search and of storage, for administrators."""
        return await self._connection.call(_GET_STATUS, status_pb.GetStatusRequest())

    @dual
    async def close(self) -> None:
        """Close the connection; running calls end, later ones fail."""
        await self._connection.close()


class AsyncClient(_Service[Suspending]):
    """A client whose methods are awaited, or iterated over by `async for`, in one event loop.

    It may be made before the loop runs. Close it, or use it in an `async with`.
    """

    _transport = SuspendingTransport

    @classmethod
    def _over(cls, connection: Connection) -> Self:
        """One with a connection that is there; it suspends where the connection's transport does."""
        client = cls.__new__(cls)
        client._share(connection)
        return client

    async def __aenter__(self) -> Self:
        """Give the client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        await self.close()


class Client(_Service[Blocking]):
    """A client whose methods block. Safe to share between threads; close it, or use it in a `with`."""

    _blocks = True
    _transport = BlockingTransport

    def __enter__(self) -> Self:
        """Give the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()


class dual_function(Generic[_P, _T]):  # noqa: N801 - a decorator
    """Makes a coroutine function of an AsyncClient a function of either client, which waits as that does."""

    def __init__(self, function: Callable[Concatenate[AsyncClient, _P], Coroutine[Any, Any, _T]]) -> None:
        """Decorate a function."""
        self._function = function
        functools.update_wrapper(self, function)

    @overload
    def __call__(self, client: Client, *args: _P.args, **kwargs: _P.kwargs) -> _T: ...
    @overload
    def __call__(self, client: AsyncClient, *args: _P.args, **kwargs: _P.kwargs) -> Coroutine[Any, Any, _T]: ...
    def __call__(self, client: Client | AsyncClient, *args: _P.args, **kwargs: _P.kwargs) -> Any:
        """Call it."""
        if isinstance(client, AsyncClient):
            return self._function(client, *args, **kwargs)
        never_suspends = AsyncClient._over(client._connection)
        return run(self._function(never_suspends, *args, **kwargs))
