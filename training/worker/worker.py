"""Claims runs and takes them through their stages, one at a time, until it is told to stop."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from export.disk import is_of_full_disk
from export.errors import ExportError
from training.database import DatabaseAway
from training.errors import TrainingError
from training.publication.gate import NOT_BETTER
from training.publication.unfinished import UNFINISHED
from training.worker.child import GRACE_S, Child
from training.worker.queue import Outcome, Progress, QueuedRun, RunQueue
from training.worker.stages import TAKE_BACK, RunFolder, Stage, WorkerSettings, run_folders

T = TypeVar("T")
Say = Callable[[str], None]
MOST_LOST = 10
# With the longest delay between most of them: some 16 hours.
MOST_RETRIES = 100
_LONGEST_DELAY_S = 600.0
_REASON = re.compile(r"([A-Z][A-Z_]{3,}): ")


class _Stopped(Exception):
    """The worker is to stop; the run goes back to the queue."""


class _Cancelled(Exception):
    """Somebody cancelled the run."""


class _Lost(Exception):
    """The run is another worker's: not one more side effect."""


class _Unfinished(Exception):
    """Something was away that is needed, or a disk full: the run is tried again."""


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
        self._held_until_s = 0.0
        """Until when nobody else has the claimed run, on this machine's monotonic clock."""

    async def run(self, *, until_empty: bool = False) -> None:
        """Work until SIGTERM or SIGINT, or until nothing is queued.

        Raises:
            TrainingError: The database is not a gateway's, or refuses; or is away, and it is not to be waited for.
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
                    elif until_empty and not await self._queue.has_queued():
                        return
                    else:
                        await self._pause(self._poll_s)
                except DatabaseAway as exc:
                    if until_empty:
                        raise TrainingError(f"the database is away: {exc}") from exc
                    self._say(f"the database is away ({exc}); it is asked again")
                    await self._pause(self._poll_s)
        finally:
            await self._queue.close()

    async def _next(self) -> QueuedRun | None:
        while (due := await self._queue.queue_due()) is not None:
            self._say(f"a schedule is due: queued run {due}")
        asked_s = time.monotonic()
        run = await self._queue.claim()
        self._held_until_s = asked_s + self._lease_s
        return run

    async def _work_on(self, run: QueuedRun) -> None:
        self._say(f"run {run.run_id}, attempt {run.attempt}: {run.encoder}")
        folder = RunFolder(self._settings, run)
        try:
            outcome = await self._outcome(run, folder)
        except _Stopped:
            await self._while_held(lambda: self._queue.give_back(run))
            self._say(f"run {run.run_id} is queued again")
            return
        except _Unfinished as exc:
            delay_s = min(self._poll_s * 2.0**run.retry_count, _LONGEST_DELAY_S)
            await self._while_held(lambda: self._queue.give_back(run, delay_s=delay_s))
            self._say(f"run {run.run_id}: {exc}; it is tried again in {delay_s:g} s")
            return
        except _Lost as exc:
            self._say(f"run {run.run_id}: {exc}; it is left alone")
            return
        if await self._while_held(lambda: self._queue.end(run, outcome, folder.lineage())):
            self._say(f"run {run.run_id}: {outcome.state}{f' {outcome.error}' if outcome.error else ''}")
        await self._delete_old_folders(run)

    async def _outcome(self, run: QueuedRun, folder: RunFolder) -> Outcome:
        try:
            outcome = await self._attempt(run, folder)
        except _Cancelled:
            outcome = Outcome("CANCELLED")
        except _StageFailed as exc:
            _raise_if_unfinished(run, exc)
            outcome = _failed(run, exc)
        except (TrainingError, ExportError, OSError) as exc:
            _raise_if_unfinished(run, exc)
            outcome = Outcome("FAILED", _reason_of(str(exc), "WORKER_FAILED"), str(exc))
        if outcome.state == "SUCCEEDED":
            return outcome
        return await self._taken_back(run, folder, outcome)

    async def _attempt(self, run: QueuedRun, folder: RunFolder) -> Outcome:
        if run.cancel_requested:
            raise _Cancelled
        if run.lost_count >= MOST_LOST:
            raise TrainingError(f"WORKERS_LOST: {run.lost_count} workers died of it, or lost their database")
        gone = await self._while_held(lambda: self._queue.missing_codebases(folder.cited_codebases()))
        # That may have taken longer than the lease: files are touched by whom the run is now.
        await self._while_held(lambda: self._keep(run, Progress(), cancellable=True))
        if gone:
            self._say(f"run {run.run_id}: {', '.join(gone)} was deleted, it begins anew")
            await self._take_back(run, folder)
            folder.delete()
        folder.prepare()
        output = ""
        for stage in folder.stages():
            output = "" if stage.done else await self._supervise(run, folder, stage)
        return _succeeded(output)

    async def _supervise(self, run: QueuedRun, folder: RunFolder, stage: Stage, *, cancellable: bool = True) -> str:
        """Run a stage's command and keep the lease meanwhile; gives what it printed.

        Raises:
            _StageFailed, _Stopped, _Cancelled, _Lost: The command has ended, and with it all that it does.
        """
        begun = Progress() if stage.name == TAKE_BACK else Progress(stage.name, 0, 0)
        await self._while_held(lambda: self._keep(run, begun, cancellable=cancellable))
        child = await Child.start(stage.command, self._environment(), folder.path / f"{stage.name}.log")
        ended = asyncio.create_task(child.wait())
        try:
            while not ended.done():
                # When the lease is over somebody else may begin: a quarter of it is left to end the command.
                left_s = self._held_until_s - self._lease_s / 4 - time.monotonic()
                if left_s <= 0:
                    raise _Lost("the database is away for too long")
                await self._wait(ended, min(left_s, self._lease_s / 4))
                if self._stop.is_set():
                    raise _Stopped
                timeout_s = max(0.0, self._held_until_s - self._lease_s / 4 - time.monotonic())
                with contextlib.suppress(DatabaseAway):
                    await self._keep(run, folder.progress(stage.name), cancellable=cancellable, timeout_s=timeout_s)
            if await ended != 0:
                # A publication sees by itself that its run was cancelled or lost.
                await self._while_held(lambda: self._keep(run, Progress(), cancellable=cancellable))
                raise _StageFailed(stage.name, child.last_error, child.output)
            return child.output
        finally:
            # It is killed before the lease is over, whatever it is about.
            await child.stop(grace_s=max(0.0, min(GRACE_S, self._held_until_s - self._lease_s / 20 - time.monotonic())))
            await ended

    async def _keep(
        self, run: QueuedRun, progress: Progress, *, cancellable: bool, timeout_s: float | None = None
    ) -> None:
        """Prolong the lease."""
        asked_s = time.monotonic()
        patience_s = self._lease_s / 4 if timeout_s is None else min(timeout_s, self._lease_s / 4)
        cancelled = await self._queue.keep(run, progress, timeout_s=patience_s)
        if cancelled is None:
            raise _Lost("another worker has it")
        self._held_until_s = asked_s + self._lease_s
        if cancelled and cancellable:
            raise _Cancelled

    async def _while_held(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What the queue answers; one that is away is asked again as long as nobody else can have the run.

        Raises:
            DatabaseAway: It is away for longer, or the worker is to stop.
        """
        pause_s = min(self._poll_s, self._lease_s / 20)
        told = False
        while True:
            try:
                return await ask()
            except DatabaseAway as exc:
                if self._stop.is_set() or time.monotonic() + pause_s >= self._held_until_s:
                    raise
                if not told:
                    self._say(f"the database is away ({exc}); it is asked again while the run is held")
                told = True
            await self._pause(pause_s)

    async def _taken_back(self, run: QueuedRun, folder: RunFolder, outcome: Outcome) -> Outcome:
        """How a run ends that did not succeed: nothing of it stays published, or the row says so."""
        try:
            await self._take_back(run, folder)
        except (_StageFailed, OSError) as exc:
            _raise_if_unfinished(run, exc)
            before = f"{outcome.error}; and" if outcome.error else "cancelled, and"
            error = f"{before} what it published was not taken back: {exc}"
            return replace(outcome, state="FAILED", error_reason=outcome.error_reason or "NOT_TAKEN_BACK", error=error)
        return outcome

    async def _take_back(self, run: QueuedRun, folder: RunFolder) -> None:
        """Undo what was published for a run that is not to be; done again, it does nothing."""
        if not await self._while_held(lambda: self._queue.has_open_publication(run)):
            return
        if not folder.result.is_dir() or self._settings.triton_url is None:
            raise _StageFailed(TAKE_BACK, "this worker has no --triton-url, or not the run's folder", "")
        await self._supervise(run, folder, folder.take_back(), cancellable=False)

    async def _delete_old_folders(self, run: QueuedRun) -> None:
        """Keep the folders of the newest runs that have ended; those of other databases are not looked at."""
        folders = run_folders(self._settings.work_dir, run.database)
        ended = await self._queue.ended(list(folders))
        for run_id in sorted(ended)[: -self._settings.keep_runs]:
            await asyncio.to_thread(shutil.rmtree, folders[run_id], ignore_errors=True)

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


def _raise_if_unfinished(run: QueuedRun, exc: Exception) -> None:
    """Have a run tried again that something from without broke off, as often as is sensible."""
    if run.retry_count < MOST_RETRIES and (_reason_of(str(exc), "") == UNFINISHED or is_of_full_disk(exc)):
        raise _Unfinished(str(exc)) from exc


def _verdict_in(output: str) -> dict[str, Any] | None:
    try:
        verdict: dict[str, Any] = json.loads(output)["verdict"]
    except (ValueError, KeyError, TypeError):
        return None
    return verdict


def _reason_of(error: str, otherwise: str) -> str:
    found = _REASON.match(error)
    return found[1] if found else otherwise
