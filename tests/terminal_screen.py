"""A program in a terminal of its own, whose screen tests read as text."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyte


class TerminalScreen:
    """Runs a command in a pseudo-terminal, and gives what a person would see."""

    def __init__(
        self, command: Sequence[str], *, cwd: Path, environment: dict[str, str], columns: int = 110, lines: int = 24
    ) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "TERM": "xterm-256color", **environment},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._master)

    def text(self) -> str:
        """What is on the screen, lines without the space at their ends."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    def colors_of(self, word: str) -> set[str]:
        """The colours in which a word stands, wherever it is."""
        found: set[str] = set()
        for row, line in enumerate(self._screen.display):
            start = line.find(word)
            while start >= 0:
                found |= {self._screen.buffer[row][column].fg for column in range(start, start + len(word))}
                start = line.find(word, start + 1)
        return found

    def press(self, keys: str) -> None:
        """Send what keys send."""
        os.write(self._master, keys.encode())

    def until(self, holds: Callable[[str], bool], timeout_s: float = 30.0) -> str:
        """Wait until the screen is as it should be, and give it."""
        deadline = time.monotonic() + timeout_s
        while not holds(self.text()):
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"the screen stayed:\n{self.text()}"
            self._read(min(left_s, 0.2))
        return self.text()

    def end(self, timeout_s: float = 30.0) -> int:
        """Wait for the program's end; gives its exit code."""
        deadline = time.monotonic() + timeout_s
        while self._process.poll() is None:
            assert time.monotonic() < deadline, f"it did not end:\n{self.text()}"
            self._read(0.1)
        return self._process.returncode

    def _read(self, timeout_s: float) -> None:
        if select.select([self._master], [], [], timeout_s)[0]:
            try:
                self._stream.feed(os.read(self._master, 65536))
            except OSError:  # the other end is closed
                time.sleep(0.01)
