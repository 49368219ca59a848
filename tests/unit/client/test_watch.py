"""What a watch sends and deletes when files change; how soon that is found is shown by tests/integration."""

import ctypes
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.client.indexer import IndexingFailed
from gateway.client.report import IndexReport
from gateway.client.watch import _LATE_S, _ROUTINE_S, _Comparison, watch_tree

from .fake_service import FakeService, serving, status

TIMEOUT_S = 30
DUOVEC = Path(sys.executable).with_name("duovec")
MOST_EVENTS = Path("/proc/sys/fs/inotify/max_queued_events")


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "pkg" / "deep").mkdir(parents=True)
    (root / "a.py").write_text("def a():\n    return 1\n")
    (root / "pkg" / "b.py").write_text("def b():\n    return 2\n")
    (root / "pkg" / "deep" / "c.py").write_text("def c():\n    return 3\n")
    (root / ".gitignore").write_text("*.log\nbuild/\n")
    (root / ".git").mkdir()
    return root


def paths(service: FakeService) -> list[str]:
    """What is stored, but for the `.gitignore` that is a file like others, too."""
    return [path for path in service.paths("x") if path != ".gitignore"]


class Watcher:
    """A watch in a thread; `next` waits for its next report."""

    def __init__(self, endpoint: str, tree: Path) -> None:
        self.stop = threading.Event()
        self.away: queue.Queue[ClientError] = queue.Queue()
        self.doubts: queue.Queue[str] = queue.Queue()
        self._reports: queue.Queue[IndexReport | BaseException] = queue.Queue()
        self._thread = threading.Thread(target=self._run, args=(endpoint, tree))
        self._thread.start()

    def next(self) -> IndexReport:
        report = self._reports.get(timeout=TIMEOUT_S)
        if isinstance(report, BaseException):
            raise report
        return report

    @property
    def has_told_nothing(self) -> bool:
        return self._reports.empty() and self.away.empty()

    def end(self) -> None:
        self.stop.set()
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()

    def _run(self, endpoint: str, tree: Path) -> None:
        try:
            with Client(endpoint) as client:
                watch_tree(
                    client,
                    tree,
                    "x",
                    on_report=self._reports.put,
                    on_away=lambda error, _: self.away.put(error),
                    on_doubt=self.doubts.put,
                    stop=self.stop,
                )
        except (ClientError, OSError) as error:
            self._reports.put(error)


@pytest.fixture
def watching(service: FakeService, tree: Path) -> Iterator[Callable[[], Watcher]]:
    """Starts a watch, and gives it once the tree is indexed."""
    watchers = []
    with serving(service) as endpoint:

        def start() -> Watcher:
            watcher = Watcher(endpoint, tree)
            watchers.append(watcher)
            return watcher

        yield start
        for watcher in watchers:
            watcher.end()


def test_what_is_written_deleted_and_moved_follows(
    service: FakeService, tree: Path, watching: Callable[[], Watcher]
) -> None:
    watcher = watching()
    assert watcher.next().files_changed == 4
    service.received.clear()
    (tree / "a.py").write_text("def a():\n    return 10\n")
    report = watcher.next()
    assert (report.files_scanned, report.files_changed) == (1, 1)
    assert [chunk.path for chunk in service.received] == ["a.py"]
    assert paths(service) == ["a.py", "pkg/b.py", "pkg/deep/c.py"]
    # Of a folder that moves, the system may tell no more than its names.
    (tree / "pkg").rename(tree / "lib")
    removed = watcher.next().files_removed
    while paths(service) != ["a.py", "lib/b.py", "lib/deep/c.py"]:
        removed += watcher.next().files_removed
    # The service has all of it before the last report of it comes.
    (tree / "a.py").unlink()
    while removed < 3:
        removed += watcher.next().files_removed
    assert (removed, paths(service)) == (3, ["lib/b.py", "lib/deep/c.py"])


def test_what_is_ignored_is_not_sent_and_wakes_nobody(
    service: FakeService, tree: Path, watching: Callable[[], Watcher]
) -> None:
    """The rules are those of `duovec index`, and hold anew when they change."""
    watcher = watching()
    watcher.next()
    (tree / "x.log").write_text("line\n")
    (tree / "build").mkdir()
    (tree / "build" / "out.py").write_text("def out():\n    return 4\n")
    (tree / ".git" / "index.py").write_text("def index():\n    return 5\n")
    (tree / "node_modules" / "m").mkdir(parents=True)
    (tree / "node_modules" / "m" / "m.js").write_text("function m() { return 6; }\n")
    (tree / "link.py").symlink_to("a.py")
    (tree / "last.py").write_text("def last():\n    return 7\n")
    while "last.py" not in paths(service):
        watcher.next()
    assert paths(service) == ["a.py", "last.py", "pkg/b.py", "pkg/deep/c.py"]
    (tree / ".gitignore").write_text("a.py\n")
    while "a.py" in paths(service):
        watcher.next()
    assert paths(service) == ["build/out.py", "last.py", "pkg/b.py", "pkg/deep/c.py", "x.log"]


@pytest.mark.parametrize(
    "change", [Path.unlink, lambda path: path.write_text("def b():\n    return 20\n")], ids=["deleted", "written"]
)
def test_a_service_that_goes_away_is_told_of_at_once(
    service: FakeService, tree: Path, change: Callable[[Path], object]
) -> None:
    """An index run bears it for two minutes; a watch bears it for ever, says so, and may be stopped meanwhile."""
    with serving(service) as endpoint:
        watcher = Watcher(endpoint, tree)
        watcher.next()
    try:
        change(tree / "pkg" / "b.py")
        began = time.monotonic()
        for _ in range(3):
            assert "nothing answers" in str(watcher.away.get(timeout=TIMEOUT_S))
        watcher.end()
        assert time.monotonic() - began < TIMEOUT_S / 3
    finally:
        watcher.stop.set()


def test_a_watch_ends_amid_its_first_run(service: FakeService, tree: Path, watching: Callable[[], Watcher]) -> None:
    """Which may take hours; here it would end by a report."""
    begun, stopped = threading.Event(), threading.Event()

    def wait(chunk: Any) -> None:
        begun.set()
        stopped.wait(TIMEOUT_S)

    service.refuse = wait
    watcher = watching()
    assert begun.wait(TIMEOUT_S)
    watcher.stop.set()
    stopped.set()
    watcher.end()
    assert watcher.has_told_nothing


def test_a_service_that_is_full_is_told_of(service: FakeService, tree: Path, watching: Callable[[], Watcher]) -> None:
    """The run waits, and tells when it goes on."""
    watcher = watching()
    watcher.next()
    refusals = iter([status(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much work", "OVERLOADED", delay_s=0.1)])
    service.refuse = lambda chunk: next(refusals, None)
    service.streams = 0
    (tree / "a.py").write_text("def a():\n    return 10\n")
    assert watcher.next().chunks_embedded == 1
    assert str(watcher.away.get(timeout=TIMEOUT_S)) == "too much work"
    assert service.streams == 1


def test_a_codebase_that_was_deleted_is_made_anew(
    service: FakeService, tree: Path, watching: Callable[[], Watcher]
) -> None:
    """With the next file that is saved, for as long as somebody watches."""
    watcher = watching()
    assert watcher.next().created
    del service.stored["x"]
    (tree / "a.py").write_text("def a():\n    return 10\n")
    report = watcher.next()
    assert (report.created, report.files_changed) == (True, 4)
    assert paths(service) == ["a.py", "pkg/b.py", "pkg/deep/c.py"]
    assert watcher.away.empty()


def test_a_long_run_lets_no_comparison_wait_for_hours() -> None:
    """Such as a first run of an hour, most of which is not the comparison."""
    comparison, hour_s = _Comparison(), 3600.0
    comparison.note(IndexReport("x"), hour_s, of_all=True)
    assert comparison._at - time.monotonic() <= _ROUTINE_S
    comparison.note(IndexReport("x", files_incomplete=1), hour_s, of_all=True)
    comparison.wish()
    assert comparison._at - time.monotonic() <= _ROUTINE_S
    comparison.note(IndexReport("x"), 1.0, of_all=True)
    comparison.wish()
    assert 15 < comparison._at - time.monotonic() <= 20


def test_a_service_that_goes_away_is_waited_for(service: FakeService, tree: Path) -> None:
    """What changed meanwhile is stored when it is back, be it that the connection broke in the middle."""
    with serving(service) as endpoint:
        watcher = Watcher(endpoint, tree)
        watcher.next()
    try:
        (tree / "pkg" / "b.py").unlink()
        error = watcher.away.get(timeout=TIMEOUT_S)
        assert error.may_pass
        (tree / "a.py").write_text("def a():\n    return 10\n")
        (tree / "new.py").write_text("def new():\n    return 8\n")
        with serving(service, int(endpoint.split(":")[1])):
            while paths(service) != ["a.py", "new.py", "pkg/deep/c.py"]:
                watcher.next()
            assert {chunk.content for chunk in service.stored["x"].values()} >= {"def a():\n    return 10"}
            watcher.end()
    finally:
        watcher.stop.set()


def test_a_service_that_is_not_in_time_is_waited_for(
    service: FakeService, tree: Path, watching: Callable[[], Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Triton that hangs, say, until somebody starts it anew."""
    monkeypatch.setattr("gateway.client.stream._PATIENCE_S", 0.3)
    watcher = watching()
    watcher.next()
    service.refuse = lambda chunk: status(grpc.StatusCode.DEADLINE_EXCEEDED, "not in its time", "DEADLINE_EXCEEDED")
    (tree / "a.py").write_text("def a():\n    return 10\n")
    while not isinstance(error := watcher.away.get(timeout=TIMEOUT_S), IndexingFailed):
        assert error.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert error.code == grpc.StatusCode.DEADLINE_EXCEEDED
    service.refuse = lambda chunk: None
    assert watcher.next().chunks_embedded == 1


def test_what_does_not_pass_ends_the_watch(service: FakeService, tree: Path, watching: Callable[[], Watcher]) -> None:
    """Such as a role that was taken away: waiting would change nothing."""
    watcher = watching()
    watcher.next()
    service.refuse_deletes = True
    (tree / "a.py").unlink()
    with pytest.raises(ClientError, match="takes the role WRITE"):
        watcher.next()


def test_a_name_that_is_not_utf8_does_not_end_the_watch(
    service: FakeService, tree: Path, watching: Callable[[], Watcher]
) -> None:
    """That such a file was opened ends the library's watch, and loses what it had to tell."""
    watcher = watching()
    watcher.next()
    (tree / os.fsdecode(b"caf\xe9.py")).write_text("x = 1\n")
    (tree / "new.py").write_text("def new():\n    return 8\n")
    assert "Unable to decode path" in watcher.doubts.get(timeout=TIMEOUT_S)
    while "new.py" not in paths(service):
        watcher.next()
    (tree / "last.py").write_text("def last():\n    return 7\n")
    while "last.py" not in paths(service):
        watcher.next()


def test_a_folder_that_cannot_be_watched_is_compared(
    service: FakeService, tree: Path, watching: Callable[[], Watcher]
) -> None:
    """A folder whose name is not UTF-8 ends every watch of the library as it begins."""
    (tree / os.fsdecode(b"caf\xe9")).mkdir()
    watcher = watching()
    watcher.next()
    for name in ("b.py", "c.py", "d.py"):
        (tree / name).write_text("def new():\n    return 8\n")
        while name not in paths(service):
            watcher.next()
    assert "Unable to decode path" in watcher.doubts.get(timeout=TIMEOUT_S)
    assert watcher.doubts.empty()


def test_a_folder_that_was_made_anew_is_watched(
    service: FakeService, tree: Path, watching: Callable[[], Watcher]
) -> None:
    """The system would go on to watch the one that was moved away; and a new one is empty at first."""
    watcher = watching()
    watcher.next()
    empty = tree.with_name("empty")
    empty.mkdir()
    exchange(tree, empty)
    assert watcher.doubts.get(timeout=TIMEOUT_S) == f"{tree} is another folder than before"
    assert "holds no file to index" in str(watcher.away.get(timeout=TIMEOUT_S))
    assert len(paths(service)) == 3
    for name in ("b.py", "c.py"):
        (tree / name).write_text("def new():\n    return 8\n")
        while name not in paths(service):
            watcher.next()
    assert paths(service) == ["b.py", "c.py"]
    (empty / "moved.py").write_text("def moved():\n    return 9\n")
    (tree / "last.py").write_text("def last():\n    return 7\n")
    while "last.py" not in paths(service):
        watcher.next()
    assert paths(service) == ["b.py", "c.py", "last.py"]


def exchange(one: Path, other: Path) -> None:
    """Let two folders have each other's name in one step: a watch that found none would end."""
    # renameat2 with RENAME_EXCHANGE, which Python lacks.
    here, exchanged = -100, 2
    result = ctypes.CDLL(None, use_errno=True).renameat2(here, bytes(one), here, bytes(other), exchanged)
    assert result == 0, os.strerror(ctypes.get_errno())


def test_a_folder_that_is_gone_ends_the_watch(tree: Path, watching: Callable[[], Watcher]) -> None:
    watcher = watching()
    watcher.next()
    tree.rename(tree.with_name("away"))
    with pytest.raises(FileNotFoundError):
        watcher.next()


def test_what_the_service_did_not_store_is_sent_again(
    service: FakeService, tree: Path, watching: Callable[[], Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody touches the file again, perhaps for days."""
    monkeypatch.setattr("gateway.client.watch._AGAIN_S", 0.3)
    service.fail_items = {"return 2": grpc.StatusCode.INTERNAL.value[0]}
    watcher = watching()
    for _ in range(3):
        assert watcher.next().files_incomplete == 1
    service.fail_items = {}
    while "pkg/b.py" not in paths(service):
        watcher.next()
    service.fail_items = {"return 10": grpc.StatusCode.INTERNAL.value[0]}
    (tree / "a.py").write_text("def a():\n    return 10\n")
    assert watcher.next().files_incomplete == 1
    service.fail_items = {}
    while "def a():\n    return 10" not in {chunk.content for chunk in service.stored["x"].values()}:
        watcher.next()


def test_every_file_is_compared_now_and_then(
    service: FakeService, tree: Path, watching: Callable[[], Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the service lost a file; of what the system lost a watch knows as little."""
    monkeypatch.setattr("gateway.client.watch._ROUTINE_S", 0.3)
    monkeypatch.setattr("gateway.client.watch._REST", 1)
    watcher = watching()
    watcher.next()
    doomed = next(key for key in service.stored["x"] if key[0] == "a.py")
    del service.stored["x"][doomed]
    report = watcher.next()
    assert (report.files_changed, report.files_unchanged) == (1, 3)
    assert paths(service) == ["a.py", "pkg/b.py", "pkg/deep/c.py"]


def test_after_very_many_changes_every_file_is_compared(
    service: FakeService, tree: Path, watching: Callable[[], Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be they in a folder that is never entered: the system's queue may have been full of them."""
    monkeypatch.setattr("gateway.client.watch._MANY_PATHS", 10)
    (tree / "node_modules").mkdir()
    watcher = watching()
    watcher.next()
    doomed = next(key for key in service.stored["x"] if key[0] == "a.py")
    del service.stored["x"][doomed]
    for number in range(30):
        (tree / "node_modules" / f"{number}.js").touch()
    assert watcher.next().files_changed == 1
    assert paths(service) == ["a.py", "pkg/b.py", "pkg/deep/c.py"]


@pytest.mark.skipif(not MOST_EVENTS.exists(), reason="needs inotify")
def test_what_the_system_lost_while_the_watch_stood_still_is_found(service: FakeService, tree: Path) -> None:
    """As after Ctrl-Z, or a long stall: its queue holds so many events, and of those beyond nobody is told."""
    with (
        serving(service) as endpoint,
        subprocess.Popen(
            [DUOVEC, "watch", str(tree), "--codebase", "x", "--endpoint", endpoint, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process,
    ):
        overdue = threading.Timer(TIMEOUT_S, process.kill)
        overdue.start()
        try:
            assert process.stdout
            assert json.loads(process.stdout.readline())["files_changed"] == 4
            process.send_signal(signal.SIGSTOP)
            stopped = time.monotonic()
            for number in range(2 * int(MOST_EVENTS.read_text())):
                # The same event twice in a row counts once.
                os.utime(tree / ("a.py" if number % 2 else "pkg/b.py"))
            (tree / "new.py").write_text("def new():\n    return 8\n")
            while time.monotonic() < stopped + 2 * _LATE_S:
                os.utime(tree / "a.py")
            process.send_signal(signal.SIGCONT)
            while "new.py" not in paths(service):
                assert process.stdout.readline()
        finally:
            overdue.cancel()
            process.kill()
