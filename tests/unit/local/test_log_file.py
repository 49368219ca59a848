"""Logs of programs that run for months stay small, and are read from their end."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.local import log_file
from gateway.local.log_file import cut, keep_small, read_end, tail
from gateway.local.process import ChildProcess

LINES = "import sys\nfor line in sys.stdin:\n    print(line, end='', flush=True)"


async def test_a_log_is_cut_while_its_program_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was cut is beside it, and there is no hole where the program had been."""
    monkeypatch.setattr(log_file, "_LOOK_S", 0.01)
    monkeypatch.setattr(log_file, "MAX_BYTES", 1000)
    path, source = tmp_path / "part.log", tmp_path / "source"
    os.mkfifo(source)
    child = ChildProcess(
        "the child",
        [sys.executable, "-c", LINES.replace("sys.stdin", f"open({str(source)!r})")],
        env=os.environ,
        log_path=path,
    )
    await child.start()
    keeping = asyncio.create_task(keep_small(tmp_path))
    with await asyncio.to_thread(source.open, "w") as lines:
        lines.write("first " * 200 + "\n")
        lines.flush()
        while not (tmp_path / "part.log.1").exists() or path.stat().st_size:
            await asyncio.sleep(0.01)
        lines.write("second\n")
    assert await child.wait() == 0
    keeping.cancel()
    assert path.read_bytes() == b"second\n"
    assert (tmp_path / "part.log.1").read_text() == "first " * 200 + "\n"


async def test_a_log_that_cannot_be_cut_keeps_no_other_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "MAX_BYTES", 1000)
    (tmp_path / "a.log").mkdir()
    (tmp_path / "b.log").write_text("x" * 2000)
    keeping = asyncio.create_task(keep_small(tmp_path))
    while (tmp_path / "b.log").stat().st_size:
        await asyncio.sleep(0.01)
    assert not keeping.done()
    keeping.cancel()


def test_a_log_that_is_small_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "part.log"
    path.write_text("x" * 100)
    cut(path, 100)
    cut(tmp_path / "none.log", 100)
    assert [found.name for found in tmp_path.iterdir()] == ["part.log"] and path.stat().st_size == 100


def test_a_log_that_cannot_be_copied_is_emptied(tmp_path: Path) -> None:
    """To a full disk, say: the database, on the same one, needs the room more."""
    path = tmp_path / "part.log"
    path.write_text("x" * 100_000)
    # Files of this process may not be longer, as if the disk had no more.
    limited = "import resource, signal, sys; from pathlib import Path; from gateway.local.log_file import cut; "
    limited += (
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); "
    )
    limited += "cut(Path(sys.argv[1]), 100)"
    subprocess.run([sys.executable, "-c", limited, str(path)], check=True, timeout=60)
    assert [(found.name, found.stat().st_size) for found in tmp_path.iterdir()] == [("part.log", 0)]


def test_only_the_end_is_read(tmp_path: Path) -> None:
    """Of a log that would not fit into memory."""
    path = tmp_path / "part.log"
    with path.open("wb") as log:
        log.truncate(2**40)
        log.seek(0, os.SEEK_END)
        log.write(b"\none\ntwo\n")
    assert tail(path, 2) == "one\ntwo"
    assert read_end(path, 4) == "two\n"
    assert read_end(path, 100, offset_bytes=2**40 + 5) == "two\n"
    assert tail(tmp_path / "none.log", 2) == ""


def test_an_offset_behind_the_end_is_of_a_log_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "part.log"
    path.write_text("new\n")
    assert read_end(path, 100, offset_bytes=5000) == "new\n"
