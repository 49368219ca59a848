"""One process at a time that exports, or downloads into the hub's cache: `flock` on a file that names its holder."""

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from export.disk import writing
from export.errors import ExportError

DEFAULT_WAIT_S = 600.0
_POLL_S = 0.1


@contextmanager
def locked(
    path: Path, *, wait_s: float = DEFAULT_WAIT_S, on_wait: Callable[[str], None] = lambda holder: None
) -> Iterator[None]:
    """Hold a lock file.

    Args:
        path: The file; it and its folder are made when missing.
        wait_s: How long to wait for another process, seconds.
        on_wait: Told once who holds it, when somebody does.

    Raises:
        ExportError: The file cannot be made, or another process still holds the lock after `wait_s`.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _acquire(descriptor, path, wait_s, on_wait)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        # Closing releases the lock, and so does a crash. The file stays: removing it would race with a waiter.
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, wait_s: float, on_wait: Callable[[str], None]) -> None:
    deadline = time.monotonic() + wait_s
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # The holder writes its name right after it got the lock: for a moment the file may be empty.
            holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
            if time.monotonic() >= deadline:
                raise ExportError(
                    f"{holder} holds {path}; waited {wait_s:.0f} s: try again later, or wait longer with --wait"
                ) from None
            if not told:
                on_wait(f"{holder} holds {path}; waiting up to {wait_s:.0f} s")
                told = True
            time.sleep(_POLL_S)
        else:
            return
