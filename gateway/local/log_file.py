"""The logs of the parts: read from their end, and kept to a size while the programs that write them run."""

import asyncio
import contextlib
import logging
import os
import shutil
from pathlib import Path

logger = logging.getLogger(__name__)

MAX_BYTES = 64 * 2**20
"""Of a log; as much again is kept of what stood in it before, beside it as `<name>.1`."""
_LOOK_S = 10.0
_ROOM = 4
"""Times its size must be free for a log to be copied."""
_TAIL_BYTES = 64 * 1024


def read_end(path: Path, max_bytes: int, *, offset_bytes: int = 0) -> str:
    """The last `max_bytes` of a log, and nothing before an offset; empty when it cannot be read.

    Args:
        path: The log.
        max_bytes: How much at most.
        offset_bytes: Where it ended at a time; a log that was cut since is read as a whole.
    """
    try:
        with path.open("rb") as log:
            size_bytes = log.seek(0, os.SEEK_END)
            begin_bytes = offset_bytes if offset_bytes <= size_bytes else 0
            log.seek(max(begin_bytes, size_bytes - max_bytes))
            return log.read(max_bytes).decode(errors="replace")
    except OSError:
        return ""


def tail(path: Path, line_count: int) -> str:
    """The last lines of a log, of 64 KiB at most; empty when it cannot be read."""
    return "\n".join(read_end(path, _TAIL_BYTES).rstrip().splitlines()[-line_count:])


async def keep_small(folder: Path) -> None:
    """Cut each log of a folder that has grown beyond `MAX_BYTES`, for ever."""
    while True:
        await asyncio.to_thread(_cut_all, folder)
        await asyncio.sleep(_LOOK_S)


def _cut_all(folder: Path) -> None:
    for path in folder.glob("*.log"):
        try:
            cut(path, MAX_BYTES)
        except OSError as error:  # one disk error must not end this for all that comes
            logger.warning("the log %s is not kept small: %s", path, error)


def cut(path: Path, max_bytes: int) -> None:
    """Empty a log that is larger, and keep a copy of it; where the disk has little room for that, only empty it.

    Its writer goes on with the same file, and must append: else it would write where it was, behind a hole. Lines that
    come between the copy and the cut are lost.

    Raises:
        OSError: It cannot be read or emptied.
    """
    predecessor = path.with_name(f"{path.name}.1")
    # By one descriptor: a restart may put another log into its place.
    with contextlib.suppress(FileNotFoundError), path.open("rb+") as log:
        status = os.fstat(log.fileno())
        if status.st_size <= max_bytes or not os.path.samestat(status, path.stat()):
            return
        is_copied = False
        # The database beside it needs what is left of a full disk more.
        if shutil.disk_usage(path.parent).free >= _ROOM * status.st_size:
            with contextlib.suppress(OSError), predecessor.open("wb") as copy:
                shutil.copyfileobj(log, copy)
                is_copied = True
        if not is_copied:
            predecessor.unlink(missing_ok=True)
        os.ftruncate(log.fileno(), 0)
