"""The client's connection: where it goes, what proves both ends, and how a call is repeated."""

import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import grpc
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from gateway.client.backoff import backoff_s
from gateway.client.credentials import find_api_key
from gateway.client.errors import ClientError, from_rpc_error
from gateway.client.timing import ASK, stage_times_ms
from gateway.client.tls import ClientTls
from gateway.client.tracing import traced
from gateway.wire import ALLOW_INSECURE, allows_insecure, client_options, is_local

DEFAULT_ENDPOINT = "127.0.0.1:50051"

HealthStatus = Literal["SERVING", "NOT_SERVING", "UNKNOWN"]

_MAX_ATTEMPTS = 4

_Reply = TypeVar("_Reply")


class Connection:
    """A channel to a service, and the API key that its calls carry. Close it, or use it in a `with`.

    Attributes:
        endpoint: Where it goes, as it was given.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        api_key: str | None = None,
        tls: ClientTls | None = None,
        timeout_s: float = 60.0,
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
            on_timing: Told after each call that was answered how long the service was about what, in milliseconds, as
                `gateway.client.timing.stage_times_ms` gives it; not of streams.

        Raises:
            ClientError: A certificate or key cannot be used, the endpoint is not one for `tls`, or the API key could
                be read on its way there.
        """
        self.endpoint = endpoint or DEFAULT_ENDPOINT
        self._timeout_s = timeout_s
        key = api_key or find_api_key(self.endpoint)
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._on_timing = on_timing
        if self.endpoint.startswith("https://"):
            target = self.endpoint.removeprefix("https://")
            credentials = (tls or ClientTls.from_environment()).channel_credentials()
            self._channel = grpc.secure_channel(target, credentials, client_options())
        elif tls is not None:
            raise ClientError(
                f"{self.endpoint} is not encrypted, and certificates were given; use https://HOST:PORT",
                code=grpc.StatusCode.INVALID_ARGUMENT,
            )
        else:
            target = self.endpoint.removeprefix("http://")
            if key and not is_local(target) and not allows_insecure(os.environ):
                raise ClientError(
                    f"{target} is another machine, and without TLS the API key could be read on the way there; use "
                    f"https://{target}, or set {ALLOW_INSECURE}=true where something else encrypts",
                    code=grpc.StatusCode.INVALID_ARGUMENT,
                )
            self._channel = grpc.insecure_channel(target, client_options())
        self._channel = traced(self._channel)

    def __enter__(self) -> Self:
        """Give the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; running calls end."""
        self._channel.close()

    def health(self) -> HealthStatus:
        """Ask the standard health service about the server as a whole."""
        # The wrappers are wire-compatible with grpc.health.v1 (a string and an enum in field 1), and save the client
        # a dependency.
        check = self._channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=Int32Value.FromString,
        )
        reply: Int32Value = self._call(check, StringValue())
        statuses: dict[int, HealthStatus] = {1: "SERVING", 2: "NOT_SERVING"}
        return statuses.get(reply.value, "UNKNOWN")

    def _call(self, method: Callable[..., _Reply], request: object, *, repeatable: bool = True) -> _Reply:
        deadline = time.monotonic() + self._timeout_s
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                reply: _Reply = self._ask(method, request, deadline - time.monotonic())
                return reply
            except grpc.RpcError as error:
                failure = from_rpc_error(error, self.endpoint)
                delay_s = backoff_s(attempt, failure.retry_delay_s)
                late = time.monotonic() + delay_s >= deadline
                if not repeatable or not failure.may_pass or attempt == _MAX_ATTEMPTS or late:
                    raise failure from error
                time.sleep(delay_s)
        raise AssertionError("unreachable")

    def _ask(self, method: Any, request: object, timeout_s: float) -> Any:
        if self._on_timing is None:
            return method(request, timeout=timeout_s, metadata=self._metadata)
        reply, call = method.with_call(request, timeout=timeout_s, metadata=(*self._metadata, ASK))
        self._on_timing(stage_times_ms(call.trailing_metadata()))
        return reply
