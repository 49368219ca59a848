"""One exporter at a time: the second says who holds the lock, waits, and fails clearly."""

import multiprocessing
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from export.errors import ExportError
from export.locks import locked


def hold(path: str, held: Any, release: Any) -> None:
    """Hold the lock in another process until told."""
    with locked(Path(path)):
        held.set()
        release.wait(30)


@pytest.fixture
def other(tmp_path: Path) -> Any:
    """Another process that holds `lock`; `release` lets it go."""
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(str(tmp_path / "lock"), held, release))
    process.start()
    assert held.wait(30)
    yield process, release
    if process.is_alive():  # to wake a process that was killed would wait for it forever
        release.set()
    process.join(30)


def test_the_second_fails_clearly_when_its_time_is_over(tmp_path: Path, other: Any) -> None:
    """The message names the process, the machine, the file and what to do."""
    process, _ = other
    holder = f"process {process.pid} on {re.escape(socket.gethostname())}"
    expected = rf"^{holder} holds {tmp_path}/lock; waited 0 s: try again later, or wait longer with --wait$"
    with pytest.raises(ExportError, match=expected), locked(tmp_path / "lock", wait_s=0.2):
        pass


def test_the_second_says_whom_it_waits_for_and_goes_on(tmp_path: Path, other: Any) -> None:
    """Told once; as soon as the first is done it is its turn."""
    process, release = other
    told: list[str] = []

    def on_wait(text: str) -> None:
        told.append(text)
        release.set()

    with locked(tmp_path / "lock", wait_s=30, on_wait=on_wait):
        assert (tmp_path / "lock").read_text() != ""
    (line,) = told
    assert line.startswith(f"process {process.pid} on ") and line.endswith("; waiting up to 30 s")


def test_a_killed_holder_holds_nothing(tmp_path: Path, other: Any) -> None:
    """The kernel releases the lock; the file with its name stays and is no obstacle."""
    process, _ = other
    process.kill()
    process.join(30)
    with locked(tmp_path / "lock", wait_s=0):
        pass


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file where the repository should be."""
    (tmp_path / "file").write_text("")
    expected = rf"cannot write {tmp_path}/file/x: Not a directory"
    with pytest.raises(ExportError, match=expected), locked(tmp_path / "file" / "x" / "lock"):
        pass
