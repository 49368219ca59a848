"""What grpc does not survive: a fork of a process that used grpc.aio, whose threads the fork does not have."""

import os

import grpc

from gateway.client.errors import ClientError

_process: int | None = None
"""Where the first channel of grpc.aio was made; as grpc's own state, it is one for the process."""


def note_aio() -> None:
    """A channel of grpc.aio is made in this process."""
    global _process
    _process = _process or os.getpid()


def refuse_after_aio() -> None:
    """Fail where any call would hang or crash, also one of grpc's blocking channels.

    Raises:
        ClientError: FAILED_PRECONDITION; this is a fork of a process that used grpc.aio.
    """
    if _process is not None and _process != os.getpid():
        raise ClientError(
            f"process {_process}, of which this one is a fork, used an AsyncClient before, and grpc does not survive "
            "that; make clients in processes that are spawned",
            code=grpc.StatusCode.FAILED_PRECONDITION,
        )
