"""The port that Prometheus reads: HTTP in threads of its own, beside the event loop."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer

from prometheus_client import CollectorRegistry, GCCollector, MetricsHandler, PlatformCollector, ProcessCollector
from prometheus_client.registry import Collector

from gateway.errors import StartupError

_STOP_LOOK_S = 0.1
# Of a connection that sends nothing: its thread ends then.
_IDLE_TIMEOUT_S = 30.0


@contextmanager
def metrics_served(listen: str, collector: Collector) -> Iterator[int]:
    """Serve metrics for the length of the block; anybody who reaches the port may read them.

    Args:
        listen: `host:port`; port 0 takes a free one.
        collector: Gives what is served beside the figures of the process and of Python.

    Yields:
        The port.

    Raises:
        StartupError: The address cannot be listened on.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(collector)
    server = _listen(listen, registry)
    thread = threading.Thread(target=server.serve_forever, args=(_STOP_LOOK_S,), name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _listen(listen: str, registry: CollectorRegistry) -> ThreadingHTTPServer:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not host:
        # An empty one would be every address of the machine, of which nobody said a word.
        raise StartupError(f"cannot serve metrics on {listen}; set DUOVEC_METRICS_LISTEN to a free host:port")
    handler = type("Handler", (MetricsHandler,), {"registry": registry, "timeout": _IDLE_TIMEOUT_S})
    family = {"address_family": socket.AF_INET6 if ":" in host else socket.AF_INET}
    server_class = type("Server", (ThreadingHTTPServer,), family)
    try:
        server: ThreadingHTTPServer = server_class((host, int(port)), handler)
    except (OSError, ValueError, OverflowError) as exc:
        raise StartupError(
            f"cannot serve metrics on {listen} ({exc}); set DUOVEC_METRICS_LISTEN to a free host:port"
        ) from exc
    return server
