"""Keeps a codebase in line with a folder while its files change."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
from watchfiles import Change, watch

from gateway.client.backoff import backoff_s
from gateway.client.chunking import DEFAULT_MAX_CHARS
from gateway.client.client import AsyncClient, Client, dual_function
from gateway.client.errors import ClientError
from gateway.client.files import NEVER_ENTERED, find_changed
from gateway.client.index_run import IndexRun
from gateway.client.indexer import index_files, index_tree
from gateway.client.report import IndexReport
from gateway.client.stored_versions import StoredVersions

# An editor writes a file in several steps, and a checkout thousands: what comes within a step is one change, but not
# for longer than the second number.
_STEP_MS, _MOST_MS = 100, 500
# How often it looks whether to stop, or whether the service is back.
_IDLE_MS = 200
_MANY_PATHS = 1000
"""From here on walking the whole tree is no dearer."""


def watch_tree(
    client: Client,
    root: Path,
    codebase_id: str,
    *,
    on_report: Callable[[IndexReport], None],
    on_away: Callable[[ClientError, float], None],
    max_chars: int = DEFAULT_MAX_CHARS,
    stop: threading.Event | None = None,
) -> None:
    """Index a folder, then whatever changes in it, until it is stopped.

    The rules are those of `index_tree`. While the service is away changes are kept, and when it is back every file is
    compared.

    Args:
        client: Where to.
        root: A folder.
        codebase_id: The codebase, which is created where it is missing.
        on_report: Told of the first run, and of every later one that sent or deleted something.
        on_away: Told that the service did not answer, and after how many seconds it is asked again.
        max_chars: Longest chunk, characters.
        stop: Ends the watch within a moment after it is set; without it KeyboardInterrupt does.

    Raises:
        ClientError: As `index_tree`, but for errors that may pass.
        OSError: The folder is gone, or the system watches no more folders (`fs.inotify.max_user_watches`).
    """
    root = root.resolve(strict=True)
    stored: StoredVersions = {}
    pending: set[str] = set()
    compare_all, failures, not_before = True, 0, 0.0
    # The first turn comes before any change: what is written from then on is not missed, however long the first run is.
    for changes in watch(
        root,
        watch_filter=_is_looked_at(root),
        debounce=_MOST_MS,
        step=_STEP_MS,
        rust_timeout=_IDLE_MS,
        yield_on_timeout=True,
        stop_event=stop,
        ignore_permission_denied=True,
    ):
        pending |= {Path(path).relative_to(root).as_posix() for _, path in changes}
        compare_all |= len(pending) > _MANY_PATHS or any(path.split("/")[-1] == ".gitignore" for path in pending)
        if not (pending or compare_all) or time.monotonic() < not_before:
            continue
        try:
            if compare_all:
                stored = {}
                report = index_tree(client, root, codebase_id, stored=stored, max_chars=max_chars)
            else:
                report = _index_some(client, root, codebase_id, stored, pending, max_chars)
        except ClientError as error:
            # A run that was not in time for once changes nothing for the next.
            if not error.may_pass and error.code != grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
            # What of it was stored is not known.
            failures, compare_all = failures + 1, True
            delay_s = backoff_s(failures, error.retry_delay_s)
            not_before = time.monotonic() + delay_s
            on_away(error, delay_s)
            continue
        if compare_all or _did_something(report):
            on_report(report)
        pending.clear()
        compare_all, failures = False, 0


@dual_function
async def _index_some(
    client: AsyncClient, root: Path, codebase_id: str, stored: StoredVersions, changed: set[str], max_chars: int
) -> IndexReport:
    below = tuple(f"{path}/" for path in changed)
    gone = [path for path in stored if path in changed or path.startswith(below)]
    async with IndexRun(client, codebase_id, stored=stored, max_chars=max_chars) as run:
        await index_files(run, await run.offload(find_changed, root, changed), gone=gone)
    return run.report


def _is_looked_at(root: Path) -> Callable[[Change, str], bool]:
    def is_looked_at(_: Change, path: str) -> bool:
        return path != str(root) and NEVER_ENTERED.isdisjoint(Path(path).relative_to(root).parts)

    return is_looked_at


def _did_something(report: IndexReport) -> bool:
    return bool(report.files_changed or report.files_incomplete or report.files_removed or report.chunks_deleted)
