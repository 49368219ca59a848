"""Writes that survive a power cut: a file or folder is on the disk before its name is."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export.errors import ExportError

FREE_SPACE = "free some space and run the command again"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def is_of_full_disk(error: Exception) -> bool:
    """Whether a disk is full: by the error of the system, or by the line that it was turned into."""
    return (isinstance(error, OSError) and error.errno in _FULL) or str(error).endswith(FREE_SPACE)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into the package's one error.

    Raises:
        ExportError: Names `path` or the file at fault, and says what to do when the disk is full.
    """
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or str(exc)
        remedy = f"; {FREE_SPACE}" if is_of_full_disk(exc) else ""
        raise ExportError(f"cannot write {exc.filename or path}: {reason}{remedy}") from exc


def sync(path: Path) -> None:
    """Flush a file, or a folder's own entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Flush a folder and every file in it."""
    for path in folder.iterdir():
        sync(path)
    sync(folder)


def replace_text(path: Path, text: str) -> None:
    """`replace_bytes` of a text in UTF-8."""
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: readers see the old content or the new one.

    Raises:
        OSError: The disk refuses; the old file is as it was, and nothing is left beside it.
    """
    staged = path.with_name(f".{path.name}.new")
    try:
        staged.write_bytes(content)
        sync(staged)
        staged.replace(path)
    except OSError:
        staged.unlink(missing_ok=True)
        raise
    sync(path.parent)


def size_bytes(folder: Path) -> int:
    """Bytes of the files directly in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
