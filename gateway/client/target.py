"""Where a client goes, and what proves both ends."""

import os
import re
from dataclasses import dataclass

import grpc

from gateway.client.credentials import find_api_key
from gateway.client.errors import ClientError
from gateway.client.tls import ClientTls
from gateway.wire import ALLOW_INSECURE, allows_insecure, is_local

DEFAULT_ENDPOINT = "127.0.0.1:50051"

_ADDRESS = re.compile(r"unix(-abstract)?:.+|((dns:(///)?|ipv[46]:)?[^\s/]+):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class Target:
    """What a channel is made of.

    Attributes:
        endpoint: As the caller gave it, for messages.
        address: As gRPC takes it.
        api_key: What calls carry; None for none.
        credentials: Of TLS; None without it.
    """

    endpoint: str
    address: str
    api_key: str | None
    credentials: grpc.ChannelCredentials | None

    @classmethod
    def of(cls, endpoint: str | None, api_key: str | None, tls: ClientTls | None) -> "Target":
        """Find out what the arguments of a client, and the environment, come to.

        Raises:
            ClientError: The endpoint is none, a certificate or key cannot be used, the endpoint is not one for `tls`,
                the file of the API key cannot be read, or the key could be read on its way there.
        """
        endpoint = endpoint or DEFAULT_ENDPOINT
        key = api_key or find_api_key(endpoint)
        address = _address(endpoint)
        if endpoint.startswith("https://"):
            credentials = (tls or ClientTls.from_environment()).channel_credentials()
            return cls(endpoint, address, key, credentials)
        if tls is not None:
            raise ClientError(
                f"{endpoint} is not encrypted, and certificates were given; use https://HOST:PORT",
                code=grpc.StatusCode.INVALID_ARGUMENT,
            )
        if key and not is_local(address) and not allows_insecure(os.environ):
            raise ClientError(
                f"{address} is another machine, and without TLS the API key could be read on the way there; use "
                f"https://{address}, or set {ALLOW_INSECURE}=true where something else encrypts",
                code=grpc.StatusCode.INVALID_ARGUMENT,
            )
        return cls(endpoint, address, key, None)


def _address(endpoint: str) -> str:
    """What gRPC takes of an endpoint; what it would take for another port or a name, it does not get."""
    scheme, separator, rest = endpoint.partition("://")
    if separator and scheme in {"http", "https"}:
        address = rest.removesuffix("/")
        if scheme == "https" and re.fullmatch(r"[^\s/:]+", address):
            return f"{address}:443"
    else:
        address = endpoint
    found = _ADDRESS.fullmatch(address)
    if found is None or (found["port"] and not 0 < int(found["port"]) < 65536):
        raise ClientError(
            f"{endpoint!r} is no endpoint; give HOST:PORT, or https://HOST:PORT for TLS",
            code=grpc.StatusCode.INVALID_ARGUMENT,
        )
    return address
