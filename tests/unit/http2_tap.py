"""A TCP relay that counts the HTTP/2 frames passing through it, and can swallow them: a peer gone without a word."""

import contextlib
import socket
import threading
from collections import Counter
from types import TracebackType
from typing import Literal, Self

Direction = Literal["to server", "to client"]

_PREFACE_BYTES = 24
_NAMES = {0: "DATA", 6: "PING", 7: "GOAWAY"}
_ACK = 1


class Http2Tap:
    """Relays connections to a port of loopback.

    Attributes:
        endpoint: Where to connect instead.
        connection_count: Connections that were made.
        byte_count: Payload of DATA frames by direction.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connection_count = 0
        self.byte_count: Counter[Direction] = Counter()
        self._frames: Counter[tuple[Direction, str]] = Counter()
        self._changed = threading.Condition()
        self._is_swallowing = False
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):  # The other side was faster.
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in (self._listener, *self._sockets):
            one.close()

    def swallow(self) -> None:
        """From now on nothing arrives on either side, and nothing is closed."""
        self._is_swallowing = True

    def count(self, direction: Direction, frame: str) -> int:
        """How many frames passed: `DATA`, `PING`, `PING ACK` or `GOAWAY`."""
        return self._frames[direction, frame]

    def wait_for(self, direction: Direction, frame: str, count: int, *, timeout_s: float = 60) -> bool:
        """Wait until so many frames have passed; gives False when they do not."""
        with self._changed:
            return self._changed.wait_for(lambda: self._frames[direction, frame] >= count, timeout_s)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            self.connection_count += 1
            self._sockets += [client, server]
            for source, target, direction in ((client, server, "to server"), (server, client, "to client")):
                thread = threading.Thread(target=self._relay, args=(source, target, direction))
                self._threads.append(thread)
                thread.start()

    def _relay(self, source: socket.socket, target: socket.socket, direction: Direction) -> None:
        unread, skip = b"", _PREFACE_BYTES if direction == "to server" else 0
        try:
            while data := source.recv(65536):
                if self._is_swallowing:
                    continue
                # Counted first: who sees the answer of what is passed on finds it counted.
                unread += data
                if len(unread) >= skip:
                    unread, skip = self._count(unread[skip:], direction), 0
                target.sendall(data)
            if not self._is_swallowing:
                target.shutdown(socket.SHUT_WR)
        except OSError:
            return  # One of the two has hung up.

    def _count(self, data: bytes, direction: Direction) -> bytes:
        """Count the whole frames; gives what is left."""
        with self._changed:
            while len(data) >= 9 and len(data) >= (end := 9 + int.from_bytes(data[:3], "big")):
                name = _NAMES.get(data[3], "")
                if name == "PING" and data[4] & _ACK:
                    name = "PING ACK"
                if name == "DATA":
                    self.byte_count[direction] += end - 9
                self._frames[direction, name] += 1
                data = data[end:]
            self._changed.notify_all()
        return data
