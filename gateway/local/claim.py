"""One user of a data directory at a time."""

import fcntl
import os
from pathlib import Path
from typing import IO

from gateway.errors import StartupError


def claim_data_dir(data_dir: Path) -> IO[str]:
    """Claim a data directory until the file that is returned is closed.

    The kernel gives it back when this process dies, however that happens.

    Raises:
        StartupError: Another process has it, or the directory cannot be written.
    """
    path = data_dir / "up.lock"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")  # not "w": a second starter must not erase the first one's pid
    except OSError as exc:
        raise StartupError(f"{data_dir} cannot be written: {exc.strerror}") from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        lock.seek(0)
        holder = lock.read().strip()
        lock.close()
        raise StartupError(
            f"duovec is already running on {data_dir}, as process {holder}: use that one, stop it, "
            "or choose another --data-dir"
        ) from exc
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock
