"""Claims runs and takes them through their stages, one at a time, until it is told to stop."""

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import Callable
from typing import Any

from export.errors import ExportError
from training.errors import TrainingError
from training.publication.gate import NOT_BETTER
from training.publication.unfinished import UNFINISHED
from training.worker.child import Child
from training.worker.queue import MOST_ATTEMPTS, Outcome, Progress, QueueAway, QueuedRun, RunQueue
from training.worker.stages import RunFolder, Stage, WorkerSettings

Say = Callable[[str], None]
_REASON = re.compile(r"([A-Z][A-Z_]{3,}): ")


class _Stopped(Exception):
    """The worker is to stop; the run goes back to the queue."""


class _Cancelled(Exception):
    """Somebody cancelled the run."""


class _Lost(Exception):
    """The run is another worker's: not one more side effect."""


class _Unfinished(Exception):
    """Something was away that is needed: the run is tried again."""


class _StageFailed(Exception):
    """A stage's command failed; with what it said, and what it printed."""

    def __init__(self, stage: str, error: str, output: str) -> None:
        super().__init__(error)
        self.stage = stage
        self.output = output


class Worker:
    """One worker.

    Args:
        settings: Where things are.
        name: In the rows.
        lease_s: How long a claim holds without a sign of life, seconds.
        poll_s: How often the queue and the schedules are looked at, seconds.
        say: Told in a line what happens.
    """

    def __init__(
        self, settings: WorkerSettings, *, name: str, lease_s: float, poll_s: float, say: Say = lambda line: None
    ) -> None:
        self._settings = settings
        self._lease_s = lease_s
        self._poll_s = poll_s
        self._say = say
        self._queue = RunQueue(settings.database_url, name, lease_s)
        self._stop = asyncio.Event()

    async def run(self, *, until_empty: bool = False) -> None:
        """Work until SIGTERM or SIGINT, or until nothing is queued.

        Raises:
            TrainingError: The database is not a gateway's.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        try:
            while not self._stop.is_set():
                try:
                    run = await self._next()
                    if run is not None:
                        await self._work_on(run)
                    elif until_empty:
                        return
                    else:
                        await self._pause(self._poll_s)
                except QueueAway as exc:
                    self._say(f"the database is away ({exc}); it is asked again")
                    await self._pause(self._poll_s)
        finally:
            await self._queue.close()

    async def _next(self) -> QueuedRun | None:
        while (due := await self._queue.queue_due()) is not None:
            self._say(f"a schedule is due: queued run {due}")
        return await self._queue.claim()

    async def _work_on(self, run: QueuedRun) -> None:
        self._say(f"run {run.run_id}, attempt {run.attempt}: {run.encoder}")
        folder = RunFolder(self._settings, run)
        try:
            outcome = await self._outcome(run, folder)
        except _Stopped:
            await self._queue.give_back(run)
            self._say(f"run {run.run_id} is queued again")
            return
        except _Unfinished as exc:
            self._say(f"run {run.run_id}: {exc}; it is queued again")
            await self._pause(self._poll_s)
            await self._queue.give_back(run)
            return
        except _Lost as exc:
            self._say(f"run {run.run_id}: {exc}; it is left alone")
            return
        if await self._queue.end(run, outcome, _known(folder)):
            self._say(f"run {run.run_id}: {outcome.state}{f' {outcome.error}' if outcome.error else ''}")

    async def _outcome(self, run: QueuedRun, folder: RunFolder) -> Outcome:
        try:
            if run.cancel_requested:
                raise _Cancelled
            folder.prepare()
            for stage in folder.stages():
                output = "" if stage.done else await self._supervise(run, folder, stage)
            return _succeeded(output)
        except _Cancelled:
            await self._take_back(run, folder)
            return Outcome("CANCELLED")
        except _StageFailed as exc:
            if _reason_of(str(exc), "") == UNFINISHED and run.attempt < MOST_ATTEMPTS:
                raise _Unfinished(str(exc)) from exc
            return _failed(run, exc)
        except (TrainingError, ExportError, OSError) as exc:
            return Outcome("FAILED", _reason_of(str(exc), "RECIPE_INVALID"), str(exc))

    async def _supervise(self, run: QueuedRun, folder: RunFolder, stage: Stage) -> str:
        """Run a stage's command and keep the lease meanwhile; gives what it printed.

        Raises:
            _StageFailed, _Stopped, _Cancelled, _Lost: The command has ended, and with it all that it does.
        """
        await self._keep(run, Progress(stage.name, 0, 0), folder)
        child = await Child.start(stage.command, self._environment(), folder.path / f"{stage.name}.log")
        ended = asyncio.create_task(child.wait())
        kept_s = time.monotonic()
        try:
            while not ended.done():
                await self._wait(ended, self._lease_s / 4)
                if self._stop.is_set():
                    raise _Stopped
                try:
                    await self._keep(run, folder.progress(stage.name), folder)
                    kept_s = time.monotonic()
                except QueueAway as exc:
                    # Until the lease is over nobody else may have taken it; a moment before, this one stops.
                    if time.monotonic() - kept_s > 0.75 * self._lease_s:
                        raise _Lost(f"the database is away for too long ({exc})") from exc
            if await ended != 0:
                # A publication sees by itself that its run was cancelled or lost.
                await self._keep(run, Progress(), folder)
                raise _StageFailed(stage.name, child.last_error, child.output)
            return child.output
        finally:
            await child.stop()
            await ended

    async def _keep(self, run: QueuedRun, progress: Progress, folder: RunFolder) -> None:
        cancelled = await self._queue.keep(run, progress, {})
        if cancelled is None:
            raise _Lost("another worker has it")
        if cancelled:
            raise _Cancelled

    async def _take_back(self, run: QueuedRun, folder: RunFolder) -> None:
        """Undo what was published for a cancelled run; what cannot be undone now is said in the log."""
        if not (run.publish and folder.result.is_dir() and self._settings.triton_url):
            return
        child = await Child.start(folder.take_back(), self._environment(), folder.path / "take_back.log")
        waiting = asyncio.create_task(child.wait())
        while not waiting.done():
            await self._wait(waiting, self._lease_s / 4)
            if await self._queue.keep(run, Progress(), {}) is None:
                await child.stop()
                raise _Lost("another worker has it")
        if await waiting != 0:
            self._say(f"run {run.run_id}: what it published was not taken back: {child.last_error}")

    def _environment(self) -> dict[str, str]:
        """The database's address goes by the environment: a command line is seen by everyone on the machine."""
        return {**os.environ, "DUOVEC_DATABASE_URL": self._settings.database_url}

    async def _wait(self, ended: "asyncio.Task[int]", timeout_s: float) -> None:
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait({ended, stopped}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            pass


def _succeeded(output: str) -> Outcome:
    found = json.loads(output)
    return Outcome("SUCCEEDED", metrics=found["verdict"], space=found.get("space"))


def _failed(run: QueuedRun, exc: _StageFailed) -> Outcome:
    """A run that was to be compared only has succeeded, whatever came out."""
    reason = _reason_of(str(exc), f"{exc.stage.upper()}_FAILED")
    metrics = _verdict_in(exc.output)
    if reason == NOT_BETTER and not run.publish:
        return Outcome("SUCCEEDED", metrics=metrics)
    return Outcome("FAILED", reason, str(exc), metrics=metrics)


def _verdict_in(output: str) -> dict[str, Any] | None:
    try:
        verdict: dict[str, Any] = json.loads(output)["verdict"]
    except (ValueError, KeyError, TypeError):
        return None
    return verdict


def _reason_of(error: str, otherwise: str) -> str:
    found = _REASON.match(error)
    return found[1] if found else otherwise


def _known(folder: RunFolder) -> dict[str, Any]:
    try:
        return folder.lineage()
    except (TrainingError, ExportError, OSError):
        return {}
