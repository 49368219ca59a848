"""What both ends of every connection agree on: how large a message may be, and how a dead peer is noticed.

A connection that is silent for `PING_AFTER_MS` is pinged, calls or no calls; where no answer comes within
`PING_TIMEOUT_MS` it is closed, and its calls end with UNAVAILABLE. So a peer that hangs, or whose machine is gone
without a word, is noticed after the sum of the two. gRPC servers hang up on clients that ping more often than they
allow (`too_many_pings`), which is why the allowance stands beside the interval.
"""

import ipaddress
from collections.abc import Mapping

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Size of a message; gRPC refuses a larger one with RESOURCE_EXHAUSTED."""
MAX_REQUEST_BYTES = 8 * 1024 * 1024
"""Of what a server takes: 256 texts of 32 KB, or two of the longest in the widest characters. A server holds every
request that anybody sends several times over before it can refuse one."""
MAX_CALLS_A_CONNECTION = 1024
"""What a server takes at once by one connection; further calls wait in their client. Unlimited by default."""
UNREAD_BYTES_A_CALL = 256 * 1024
"""What a client may send ahead of a server that reads: 5 MB a second over a way of 50 ms, where an indexer sends less
than one. A message that is being read comes as fast as it can."""
PING_AFTER_MS = 30_000
"""Silence after which either end asks whether the other one lives."""
PING_TIMEOUT_MS = 10_000
"""How long it waits for the answer."""
LEAST_PING_INTERVAL_MS = 10_000
"""What a server allows: below the interval, so that no clock or delay makes an honest client look like a flood."""
FIRST_RECONNECT_MS, LAST_RECONNECT_MS = 100, 500
"""How long a channel that could not connect fails its calls at once before it tries again, at first and in the end.
It is less than a client's repetitions of a call take, 0.7 s at least; gRPC's own are 1 s and 2 min."""

ALLOW_INSECURE = "DUOVEC_ALLOW_INSECURE"
"""The variable by which an operator says that something else encrypts what leaves the machine."""

_UNIX = ("unix:", "unix-abstract:")
_SCHEMES = ("ipv4:", "ipv6:", "dns:///", "dns:")

Options = list[tuple[str, int]]


def is_local(address: str) -> bool:
    """Whether nobody outside this machine can reach an address: a unix socket, `localhost`, or a loopback number.

    A name is not looked up: what it stands for may change.
    """
    if address.startswith(_UNIX):
        return True
    for scheme in _SCHEMES:
        address = address.removeprefix(scheme)
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def allows_insecure(environment: Mapping[str, str]) -> bool:
    """Whether `DUOVEC_ALLOW_INSECURE` is true, spelled as the gateway's settings may be."""
    return environment.get(ALLOW_INSECURE, "").strip().lower() in {"1", "true", "t", "yes", "y", "on"}


def client_options() -> Options:
    """Options of a channel, to the gateway or to Triton. Nothing is compressed: that costs more than it saves."""
    return [
        *_common(),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # By default gRPC goes slow on a silent connection after two pings, and a peer that dies later is missed.
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", FIRST_RECONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", LAST_RECONNECT_MS),
    ]


def server_options() -> Options:
    """Options of a server whose clients use `client_options`."""
    return [
        *_common(),
        ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        ("grpc.max_concurrent_streams", MAX_CALLS_A_CONNECTION),
        # By default gRPC lets whoever is fast send megabytes a call, before anybody asked for its request.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", UNREAD_BYTES_A_CALL),
        ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_INTERVAL_MS),
    ]


def triton_arguments() -> list[str]:
    """The same for Triton, on its command line; its messages are unlimited."""
    return [
        f"--grpc-keepalive-time={PING_AFTER_MS}",
        f"--grpc-keepalive-timeout={PING_TIMEOUT_MS}",
        "--grpc-keepalive-permit-without-calls=1",
        f"--grpc-http2-min-recv-ping-interval-without-data={LEAST_PING_INTERVAL_MS}",
    ]


def triton_trace_arguments(traces_url: str) -> list[str]:
    """What makes Triton send spans of its own, on its command line.

    Args:
        traces_url: A collector's, of OTLP over HTTP: `http://host:4318/v1/traces`.
    """
    return [
        "--trace-config=mode=opentelemetry",
        # None but those of a caller who is traced, and whose gateway says so.
        "--trace-config=rate=0",
        "--trace-config=level=TIMESTAMPS",
        "--trace-config=opentelemetry,resource=service.name=triton",
        f"--trace-config=opentelemetry,url={traces_url}",
    ]


def _common() -> Options:
    return [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", PING_AFTER_MS),
        ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
        # The timeout that closes the connection; it is a minute by default, whatever the one above says.
        ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
