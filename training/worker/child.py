"""A stage's process: it ends with its worker, and is ended before its worker goes on."""

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
GRACE_S = 20.0
_LONGEST_ERROR = 4000


class Child:
    """A running command, in a group of its own; its output goes to files."""

    def __init__(self, process: asyncio.subprocess.Process, stdout: Path, stderr: Path) -> None:
        """Use `start`."""
        self._process = process
        self._stdout = stdout
        self._stderr = stderr

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str], log: Path) -> "Child":
        """Start a command; `log` is where its stderr goes, and beside it its stdout."""
        log.parent.mkdir(parents=True, exist_ok=True)
        stdout = log.with_suffix(".out")
        with log.open("wb") as errors, stdout.open("wb") as results:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=results,
                stderr=errors,
                env=dict(environment),
                start_new_session=True,
                # Killed with the worker, whatever kills that: two of them must never write in one folder.
                preexec_fn=_die_with_parent(os.getpid()),
            )
        return cls(process, stdout, log)

    async def wait(self) -> int:
        """The exit code."""
        return await self._process.wait()

    @property
    def output(self) -> str:
        """What it printed."""
        return self._stdout.read_text(encoding="utf-8", errors="replace")

    @property
    def last_error(self) -> str:
        """Its last line on stderr, without `error: ` and what no database takes; of a long one the beginning."""
        lines = self._stderr.read_text(encoding="utf-8", errors="replace").replace("\0", "").split("\n")
        told = [line.strip() for line in lines if line.strip()]
        return told[-1].removeprefix("error: ")[:_LONGEST_ERROR] if told else "it said nothing"

    async def stop(self, *, grace_s: float = GRACE_S) -> None:
        """End it with all its children; it has so many seconds to finish what it writes."""
        for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, None)):
            if self._process.returncode is not None:
                break
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._process.wait()


def _die_with_parent(parent: int) -> "_Hook":
    return _Hook(parent)


class _Hook:
    """Runs between fork and exec; loaded before, because only what is loaded is safe there."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._prctl = ctypes.CDLL(None).prctl

    def __call__(self) -> None:
        self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != self._parent:  # it died before prctl
            os._exit(1)
