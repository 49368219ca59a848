"""The local stack is of this machine alone: what its processes listen on, as the kernel says."""

import contextlib
from ipaddress import ip_address

import psutil

from gateway.local.stack import Stack


def test_every_process_of_the_stack_listens_on_loopback_only(stack: Stack) -> None:
    """PostgreSQL, Triton with its stubs, and the gateway, whatever port, HTTP and metrics too."""
    ports: dict[str, set[int]] = {}
    for name, part in stack._parts.items():
        process = psutil.Process(part.pid)
        for one in (process, *process.children(recursive=True)):
            found = []
            with contextlib.suppress(psutil.NoSuchProcess):  # PostgreSQL's come and go
                found = one.net_connections(kind="inet")
            for connection in found:
                if connection.status == psutil.CONN_LISTEN:
                    ports.setdefault(name, set()).add(connection.laddr.port)
                    # An IPv4 address of a socket for both begins so.
                    address = ip_address(connection.laddr.ip.removeprefix("::ffff:"))
                    assert address.is_loopback, (name, connection.laddr)
    assert set(ports) == {"postgres", "triton", "gateway"}
