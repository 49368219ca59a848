"""Where the gateway listens, and what it refuses to: what leaves the machine is encrypted, or the operator said so."""

from dataclasses import dataclass

import grpc

from gateway.errors import StartupError
from gateway.rpc.tls import CERTIFICATE, KEY, TlsFiles
from gateway.wire import is_local

_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Listener:
    """One address of the gateway.

    Attributes:
        address: `host:port`, or `unix:PATH`, or `unix-abstract:NAME`.
        setting: Where it was set, for messages.
        tls: What to encrypt with; None encrypts nothing.
        allow_insecure: Whether an address that others may reach does without.

    Raises:
        StartupError: Others may reach the address, and it would not be encrypted.
    """

    address: str
    setting: str
    tls: TlsFiles | None
    allow_insecure: bool = False

    def __post_init__(self) -> None:
        if self.tls is None and not self.allow_insecure and not is_local(self.address):
            raise StartupError(
                f"{self.setting}: {self.address} is neither loopback nor a unix socket, and without TLS all could be "
                f"read on the way; set {CERTIFICATE} and {KEY}, or DUOVEC_ALLOW_INSECURE=true where something else "
                "encrypts"
            )

    def bind(self, server: grpc.aio.Server) -> int:
        """Have a server that was not started listen here.

        Returns:
            The port, or 1 where the address has none.

        Raises:
            StartupError: The address cannot be listened on.
        """
        port = self.address.rpartition(":")[2]
        if port.isdecimal() and int(port) > _LAST_PORT and not self.address.startswith("unix"):
            # gRPC would listen at what is left of its last 16 bits.
            raise StartupError(f"cannot listen on {self.address}: ports end at {_LAST_PORT}; set {self.setting}")
        try:
            if self.tls is None:
                return server.add_insecure_port(self.address)
            return server.add_secure_port(self.address, self.tls.server_credentials())
        except RuntimeError as exc:
            raise StartupError(f"cannot listen on {self.address}; set {self.setting} to a free address") from exc
