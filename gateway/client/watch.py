"""Keeps a codebase in line with a folder while its files change."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import grpc
from watchfiles import watch
from watchfiles._rust_notify import WatchfilesRustInternalError

from gateway.client.backoff import backoff_s
from gateway.client.chunking import DEFAULT_MAX_CHARS
from gateway.client.client import AsyncClient, Client, dual_function
from gateway.client.connection import is_passing
from gateway.client.errors import ClientError
from gateway.client.files import NEVER_ENTERED, find_changed
from gateway.client.index_run import IndexRun
from gateway.client.indexer import NothingToIndex, index_files, index_tree, within
from gateway.client.report import IndexReport, NoProgress, Progress
from gateway.client.stored_versions import StoredVersions

# An editor writes a file in several steps, and a checkout thousands: what comes within a step is one change, but not
# for longer than the second number.
_STEP_MS, _MOST_MS = 100, 500
# How often it looks whether to stop, or whether the service is back.
_IDLE_MS = 200
_LATE_S = 1.0
"""A turn without a run takes 0.6 s at most; else the process stood still, and the system's queue may have been full."""
_MANY_PATHS = 1000
"""From here on walking the whole tree is no dearer, and the system's queue (16,384 events) may have been full."""
_ROUTINE_S = 600.0
"""Every file is compared this often all the same: what the system or the service lost it tells nobody."""
_REST = 20
"""It is not done before this many times what it took the last time, but for the routine: it takes a twentieth of the
time. What took long may have been the first run, so that it says little of the next."""
_AGAIN_S = 10.0
"""After so long, and twice as long each time, what the service did not store is sent again."""


def watch_tree(
    client: Client,
    root: Path,
    codebase_id: str,
    *,
    on_report: Callable[[IndexReport], None],
    on_away: Callable[[ClientError, float], None],
    on_doubt: Callable[[str], None] | None = None,
    max_chars: int = DEFAULT_MAX_CHARS,
    stop: threading.Event | None = None,
) -> None:
    """Index a folder, then whatever changes in it, until it is stopped.

    The rules are those of `index_tree`. Every file is compared when the service is back after it was away, and every
    ten minutes; sooner where changes may have been missed, or the service did not store a file.

    Args:
        client: Where to.
        root: A folder.
        codebase_id: The codebase, which is created where it is missing.
        on_report: Told of the first run, of the first after the service was away, and of every later one that sent or
            deleted something.
        on_away: Told that the service did not answer, was full or lacked what it needs, or that the folder was emptied,
            and after how many seconds the next attempt is made.
        on_doubt: Told why the folder could not be watched for a moment; once for each reason in a row.
        max_chars: Longest chunk, characters.
        stop: Ends the watch within a moment after it is set, amid a run with the next reply, file or attempt; without
            it KeyboardInterrupt does.

    Raises:
        ClientError: As `index_tree`, but for errors that may pass.
        OSError: The folder is gone, or the system watches no more folders (`fs.inotify.max_user_watches`).
    """
    root = root.resolve(strict=True)
    stored: StoredVersions = {}
    pending: set[str] = set()
    comparison = _Comparison()
    stop = stop or threading.Event()
    is_first, failures, not_before = True, 0, 0.0
    idle_since = time.monotonic()
    # The first turn comes before any change: what is written from then on is not missed, however long the first run is.
    for changed, in_doubt in _turns(root, stop, on_doubt):
        now = time.monotonic()
        pending |= changed
        if in_doubt or now - idle_since > _LATE_S:
            comparison.wish()
        idle_since = now
        if len(pending) > _MANY_PATHS or any(path.split("/")[-1] == ".gitignore" for path in pending):
            comparison.demand()
        compare_all = comparison.is_due
        if compare_all:
            # They are among all; kept, they would grow for as long as the service is away.
            pending.clear()
        if not (pending or compare_all) or now < not_before:
            continue
        progress = _Impatience(stop, on_away)
        try:
            if compare_all:
                stored = {}
                report = index_tree(client, root, codebase_id, stored=stored, max_chars=max_chars, progress=progress)
            else:
                report = _index_some(client, root, codebase_id, stored, pending, max_chars, progress)
        except _Stopped:
            return
        except ClientError as error:
            if error.code == grpc.StatusCode.NOT_FOUND and not compare_all:
                # It creates a codebase that was deleted.
                comparison.demand()
                continue
            if not _may_pass(error, is_first=is_first):
                raise
            # What of it was stored is not known.
            comparison.demand()
            failures += 1
            delay_s = backoff_s(failures, error.retry_delay_s)
            not_before = time.monotonic() + delay_s
            on_away(error, delay_s)
            continue
        finally:
            idle_since = time.monotonic()
        comparison.note(report, idle_since - now, of_all=compare_all)
        if is_first or failures or progress.has_waited or _did_something(report):
            on_report(report)
        pending.clear()
        is_first, failures = False, 0


class _Stopped(Exception):
    """Ends a run, as the watch is to end."""


class _Impatience(NoProgress):
    """Ends a run where nobody answers: the watch itself waits, and says so. One that is full it tells of.

    Attributes:
        has_waited: Whether there was a pause.
    """

    def __init__(self, stop: threading.Event, on_away: Callable[[ClientError, float], None]) -> None:
        self.has_waited = False
        self._stop = stop
        self._on_away = on_away

    def file_done(self, path: str) -> None:
        self._end_if_stopped()

    def chunk_done(self) -> None:
        self._end_if_stopped()

    def waiting(self, refusal: ClientError, seconds: float) -> None:
        self._end_if_stopped()
        # The service gives a reason, the channel none.
        if not refusal.reason:
            raise refusal
        self.has_waited = True
        self._on_away(refusal, seconds)

    def _end_if_stopped(self) -> None:
        if self._stop.is_set():
            raise _Stopped


class _Comparison:
    """When every file is compared next."""

    def __init__(self) -> None:
        self._at = self._rested_at = 0.0  # by time.monotonic
        self._incomplete_runs = 0

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._at

    def demand(self) -> None:
        """Let it be now."""
        self._at = 0.0

    def wish(self) -> None:
        """Let it be as soon as it does not take too much of the time."""
        self._at = min(self._at, self._rested_at)

    def note(self, report: IndexReport, took_s: float, *, of_all: bool) -> None:
        """Take note of a run."""
        now = time.monotonic()
        if of_all:
            self._rested_at = now + min(_REST * took_s, _ROUTINE_S)
            self._at = now + _ROUTINE_S
        if report.files_incomplete:
            delay_s = min(_AGAIN_S * 2 ** min(self._incomplete_runs, 10), _ROUTINE_S)
            self._at = min(self._at, max(now + delay_s, self._rested_at))
            self._incomplete_runs += 1
        elif of_all:
            self._incomplete_runs = 0


def _turns(
    root: Path, stop: threading.Event, on_doubt: Callable[[str], None] | None
) -> Iterator[tuple[set[str], bool]]:
    """Give, several times a second, which paths changed, and whether others may have, as before the first turn."""
    failures, told = 0, ""
    while not stop.is_set():
        is_watched = False
        identity = _identity(root)
        try:
            with closing(
                watch(
                    root,
                    watch_filter=None,
                    debounce=_MOST_MS,
                    step=_STEP_MS,
                    rust_timeout=_IDLE_MS,
                    yield_on_timeout=True,
                    stop_event=stop,
                    ignore_permission_denied=True,
                )
            ) as turns:
                for changes in turns:
                    # The system watches a folder, whatever it is called by now.
                    if _identity(root) != identity:
                        reason = f"{root} is another folder than before"
                        break
                    paths = {relative for _, path in changes if (relative := _looked_at(root, path)) is not None}
                    yield paths, not is_watched or len(changes) > _MANY_PATHS
                    is_watched = True
                else:
                    return
        # One of a name that is not UTF-8 ends it, and be the file but opened.
        except WatchfilesRustInternalError as error:
            reason = str(error)
        if on_doubt is not None and reason != told:
            on_doubt(reason)
            told = reason
        failures = 0 if is_watched else failures + 1
        if not is_watched:
            # What cannot be watched is compared.
            yield set(), True
        stop.wait(backoff_s(failures + 1, None))


def _identity(root: Path) -> tuple[int, int]:
    status = root.stat()
    return status.st_dev, status.st_ino


def _looked_at(root: Path, path: str) -> str | None:
    """Give a path relative to the root; None of the root itself, and of what no walk comes to."""
    relative = Path(path).relative_to(root)
    return relative.as_posix() if relative.parts and NEVER_ENTERED.isdisjoint(relative.parts) else None


def _may_pass(error: ClientError, *, is_first: bool) -> bool:
    # What was emptied after the first run is perhaps about to be filled, as by a new clone.
    return is_passing(error) or (isinstance(error.__cause__, NothingToIndex) and not is_first)


@dual_function
async def _index_some(
    client: AsyncClient,
    root: Path,
    codebase_id: str,
    stored: StoredVersions,
    changed: set[str],
    max_chars: int,
    progress: Progress,
) -> IndexReport:
    async with IndexRun(client, codebase_id, stored=stored, max_chars=max_chars, progress=progress) as run:
        gone = await run.offload(within, stored, changed)
        await index_files(run, await run.offload(find_changed, root, changed), gone=gone)
    return run.report


def _did_something(report: IndexReport) -> bool:
    return bool(report.files_changed or report.files_incomplete or report.files_removed or report.chunks_deleted)
