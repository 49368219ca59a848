"""Files that are written whole, or are as they were."""

import errno
import os
from pathlib import Path

import pytest

from export.disk import replace_bytes, replace_text


def test_a_file_is_on_the_disk_before_its_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a power cut leaves the name of a file that is empty."""
    path = tmp_path / "file"
    seen: list[tuple[str, bool]] = []
    flush = os.fsync

    def note(descriptor: int) -> None:
        flush(descriptor)
        seen.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, path.exists()))

    monkeypatch.setattr(os, "fsync", note)
    replace_text(path, "ä")
    assert path.read_bytes() == "ä".encode()
    assert seen == [(".file.new", False), (tmp_path.name, True)]


def test_what_the_disk_refuses_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing beside it, whichever step it refuses."""
    path = tmp_path / "file"
    replace_bytes(path, b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        replace_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
