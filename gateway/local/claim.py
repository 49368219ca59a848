"""One user of a directory at a time."""

import fcntl
import os
from pathlib import Path
from typing import IO

from gateway.errors import StartupError


def claim_data_dir(data_dir: Path) -> IO[str]:
    """Claim the data directory of `duovec up`; see `claim`."""
    return claim(
        data_dir / "up.lock",
        f"duovec is already running on {data_dir}, as process {{holder}}: use that one, stop it, "
        "or choose another --data-dir",
    )


def claim(path: Path, taken: str) -> IO[str]:
    """Claim what a lock file stands for, until the file that is returned is closed.

    The kernel gives it back when this process dies, however that happens.

    Args:
        path: The lock file; it and its folder are made.
        taken: What to tell whom another process forestalled, with its number for `{holder}`.

    Raises:
        StartupError: Another process has it, or the file cannot be written or locked.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")  # not "w": a second starter must not erase the first one's pid
    except OSError as exc:
        raise StartupError(f"{path.parent} cannot be written: {exc.strerror}") from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise StartupError(taken.replace("{holder}", holder)) from exc
    except OSError as exc:
        lock.close()
        raise StartupError(f"{path} cannot be locked: {exc.strerror}") from exc
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock
