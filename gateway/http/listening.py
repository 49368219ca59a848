"""The address of the HTTP port, under the same rules as those of gRPC."""

import contextlib
import socket
from dataclasses import dataclass

from gateway.errors import StartupError
from gateway.rpc.listening import Listener
from gateway.rpc.tls import TlsFiles

SETTING = "DUOVEC_HTTP_LISTEN"
_BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class HttpListener:
    """Where HTTP is served.

    Attributes:
        address: `host:port`; port 0 takes a free one.
        tls: What to encrypt with; None encrypts nothing.
        allow_insecure: Whether an address that others may reach does without.
        reuse_port: Whether other processes may listen there, too.

    Raises:
        StartupError: Others may reach the address, and it would not be encrypted; or it is not `host:port`.
    """

    address: str
    tls: TlsFiles | None
    allow_insecure: bool = False
    reuse_port: bool = False

    def __post_init__(self) -> None:
        Listener(self.address, SETTING, self.tls, self.allow_insecure)
        host, _, port = self.address.rpartition(":")
        if not host or not (port.isascii() and port.isdigit() and int(port) <= 65535):
            raise StartupError(f"{SETTING}: {self.address!r} is not an address such as 127.0.0.1:8080")

    def bind(self) -> socket.socket:
        """Open the socket; nobody is accepted yet.

        Raises:
            StartupError: The address cannot be listened on.
        """
        host, _, port = self.address.rpartition(":")
        with contextlib.ExitStack() as opened:
            try:
                family, kind, protocol, _, target = socket.getaddrinfo(
                    host.removeprefix("[").removesuffix("]"), int(port), type=socket.SOCK_STREAM
                )[0]
                sock = opened.enter_context(socket.socket(family, kind, protocol))
                # Connections that a server before has closed linger on the port, and are no reason to refuse it.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if self.reuse_port:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sock.bind(target)
                # From here on a second one is refused: bound alone, SO_REUSEADDR would let it bind, too.
                sock.listen(_BACKLOG)
                sock.setblocking(False)
            except OSError as exc:
                raise StartupError(
                    f"cannot listen on {self.address} ({exc.strerror}); set {SETTING} to a free address"
                ) from exc
            opened.pop_all()
        return sock
