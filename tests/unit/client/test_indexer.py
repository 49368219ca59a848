import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.client.client import AsyncClient, Client
from gateway.client.errors import ClientError
from gateway.client.index_run import IndexRun
from gateway.client.indexer import IndexingFailed, index_tree, within
from gateway.client.report import NoProgress

from .fake_service import FakeService, serving

MANY_UNREADABLE = """
import resource
from gateway.client.indexer import _lost

paths = [f"src/package_{number % 97}/module_{number}.py" for number in range(50_000)]
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
print(_lost([*paths, "src/gone.py"], set(), paths))
"""


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> Iterator[Client]:
    with serving(service) as endpoint, Client(endpoint) as client:
        yield client


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "pkg").mkdir(parents=True)
    (root / "a.py").write_text("def a():\n    return 1\n\n\ndef b():\n    return 2\n")
    (root / "pkg" / "c.py").write_text("def c():\n    return 3\n")
    (root / "notes.md").write_text("# Notes\n\nSome words.\n")
    return root


def test_the_first_run_creates_the_codebase_and_sends_everything(
    service: FakeService, client: Client, tree: Path
) -> None:
    report = index_tree(client, tree, "x")
    assert report.created
    assert (report.files_scanned, report.files_changed, report.chunks_embedded) == (3, 3, 4)
    assert service.paths("x") == ["a.py", "notes.md", "pkg/c.py"]
    chunk = service.received[0]
    assert (chunk.path, chunk.symbol, chunk.ordinal, chunk.file_chunk_count) == ("a.py", "a", 0, 2)
    assert chunk.file_sha256 == hashlib.sha256((tree / "a.py").read_bytes()).digest()


def test_a_second_run_sends_nothing_and_opens_no_stream(service: FakeService, client: Client, tree: Path) -> None:
    index_tree(client, tree, "x")
    service.received.clear()
    report = index_tree(client, tree, "x")
    assert (report.created, report.files_unchanged, report.files_changed) == (False, 3, 0)
    assert service.received == []
    assert service.streams == 1
    assert service.deletes == []


def test_a_changed_file_alone_is_sent_and_its_old_version_deleted(
    service: FakeService, client: Client, tree: Path
) -> None:
    index_tree(client, tree, "x")
    service.received.clear()
    (tree / "a.py").write_text("def a():\n    return 10\n")
    report = index_tree(client, tree, "x")
    assert [chunk.path for chunk in service.received] == ["a.py"]
    assert (report.files_changed, report.files_unchanged, report.chunks_deleted) == (1, 2, 2)
    assert [chunk.content for key, chunk in service.stored["x"].items() if key[0] == "a.py"] == [
        "def a():\n    return 10"
    ]


def test_a_removed_file_is_deleted(service: FakeService, client: Client, tree: Path) -> None:
    index_tree(client, tree, "x")
    (tree / "pkg" / "c.py").unlink()
    report = index_tree(client, tree, "x")
    assert report.files_removed == 1
    assert service.paths("x") == ["a.py", "notes.md"]


def test_indexing_one_file_deletes_no_other(service: FakeService, client: Client, tree: Path) -> None:
    index_tree(client, tree, "x")
    report = index_tree(client, tree / "a.py", "x")
    assert (report.files_scanned, report.files_unchanged, report.files_removed) == (1, 1, 0)
    assert len(service.paths("x")) == 3


def test_a_folder_without_files_does_not_empty_a_codebase(
    service: FakeService, client: Client, tree: Path, tmp_path: Path
) -> None:
    index_tree(client, tree, "x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(IndexingFailed, match="holds no file to index") as failure:
        index_tree(client, tmp_path / "empty", "x")
    assert failure.value.code == grpc.StatusCode.FAILED_PRECONDITION
    assert len(service.paths("x")) == 3


def test_a_file_that_lost_all_its_chunks_loses_its_old_version(
    service: FakeService, client: Client, tree: Path
) -> None:
    index_tree(client, tree, "x")
    (tree / "a.py").write_text("import os\n")
    report = index_tree(client, tree, "x")
    assert (report.files_without_chunks, report.files_changed, report.files_unchanged) == (1, 0, 2)
    assert service.paths("x") == ["notes.md", "pkg/c.py"]


def test_a_failed_item_is_reported_and_the_old_version_stays(service: FakeService, client: Client, tree: Path) -> None:
    index_tree(client, tree, "x")
    (tree / "a.py").write_text("def a():\n    return 10\n\n\ndef bad():\n    return 20\n")
    service.fail_items = {"bad": grpc.StatusCode.INTERNAL.value[0]}
    report = index_tree(client, tree, "x")
    assert (report.chunks_failed, report.chunks_embedded, report.files_incomplete) == (1, 1, 1)
    [failure] = report.failures
    assert (failure.path, failure.start_line, failure.code) == ("a.py", 5, "INTERNAL")
    assert service.deletes == []
    service.fail_items = {}
    report = index_tree(client, tree, "x")
    assert (report.chunks_embedded, report.chunks_unchanged, report.chunks_deleted) == (1, 1, 2)


def test_an_item_refused_for_now_is_sent_again(service: FakeService, client: Client, tree: Path) -> None:
    service.fail_items, service.fail_once = {"def c": grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]}, True
    report = index_tree(client, tree, "x")
    assert (report.chunks_failed, report.chunks_embedded) == (0, 4)
    assert len(service.received) == 5


def test_a_broken_stream_is_resumed(service: FakeService, client: Client, tree: Path) -> None:
    for number in range(40):
        (tree / f"f{number:02}.py").write_text(f"def f{number}():\n    return {number}\n")
    service.break_after = 17
    report = index_tree(client, tree, "x", window=8)
    assert service.streams == 2
    assert (report.files_changed, report.chunks_failed) == (43, 0)
    assert report.chunks_embedded + report.chunks_unchanged == 44
    assert len(service.stored["x"]) == 44


def test_a_stream_that_keeps_breaking_is_given_up(
    service: FakeService, client: Client, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, in which new calls come ever more slowly."""
    monkeypatch.setattr("gateway.client.stream._FIRST_PATIENCE_S", 1.5)
    service.break_always = True
    began_at = time.monotonic()
    with pytest.raises(IndexingFailed, match=r"0 chunks are stored; run again to resume") as failure:
        index_tree(client, tree, "x")
    assert failure.value.code == grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - began_at > 1.5
    assert 3 <= service.streams <= 6


def test_silence_is_given_up_with_no_more_than_the_window_on_the_way(
    service: FakeService, client: Client, tree: Path
) -> None:
    service.silent = True
    with pytest.raises(IndexingFailed, match=r"nothing was answered in 0\.2 s") as failure:
        index_tree(client, tree, "x", window=2, stall_timeout_s=0.2)
    assert failure.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(service.received) <= 2


def test_no_thread_outlives_a_run(service: FakeService, client: Client, tree: Path) -> None:
    before = set(threading.enumerate())
    service.break_after = 1
    index_tree(client, tree, "x")
    left = [thread for thread in set(threading.enumerate()) - before if thread.name == "duovec-replies"]
    assert left == []


def test_a_version_that_was_cut_otherwise_is_replaced(service: FakeService, client: Client, tree: Path) -> None:
    (tree / "long.py").write_text("def f():\n" + "".join(f"    call_{n}()\n" for n in range(100)))
    index_tree(client, tree, "x", max_chars=500)
    partial = [key for key in service.stored["x"] if key[0] == "long.py"]
    assert len(partial) > 1
    del service.stored["x"][partial[0]]
    report = index_tree(client, tree, "x", max_chars=5000)
    assert report.files_changed == 1
    assert [chunk.file_chunk_count for key, chunk in service.stored["x"].items() if key[0] == "long.py"] == [1]


def test_the_old_version_outlives_a_new_one_that_was_cut_otherwise(
    service: FakeService, client: Client, tree: Path
) -> None:
    """Until a new version is there in full, and no longer: else a file could not be found at all for a while."""
    index_tree(client, tree, "x")
    [(_, chunk)] = [(key, chunk) for key, chunk in service.stored["x"].items() if key[0] == "pkg/c.py"]
    (tree / "pkg" / "c.py").write_text("def c():\n    return 4\n")
    partial = type(chunk)()
    partial.CopyFrom(chunk)
    partial.file_sha256 = hashlib.sha256((tree / "pkg" / "c.py").read_bytes()).digest()
    partial.file_chunk_count = 9
    service.stored["x"][("pkg/c.py", partial.file_sha256, 8)] = partial
    service.fail_items = {"return 4": grpc.StatusCode.INTERNAL.value[0]}
    index_tree(client, tree, "x")
    assert chunk in service.stored["x"].values()
    service.fail_items = {}
    index_tree(client, tree, "x")
    assert [chunk.content for key, chunk in service.stored["x"].items() if key[0] == "pkg/c.py"] == [
        "def c():\n    return 4"
    ]


def test_a_version_that_is_a_mix_of_two_cuts_is_mended(service: FakeService, client: Client, tree: Path) -> None:
    """Of another indexer's, which cuts files into fewer pieces: the rest of the first cut would be found for ever."""
    (tree / "long.py").write_text("def f():\n" + "".join(f"    call_{n}()\n" for n in range(100)))
    index_tree(client, tree, "x", max_chars=500)
    [key, *_] = (key for key in service.stored["x"] if key[0] == "long.py")
    service.stored["x"][key].file_chunk_count = 1
    report = index_tree(client, tree, "x", max_chars=5000)
    assert (report.files_changed, report.files_unchanged) == (1, 3)
    assert [chunk.file_chunk_count for key, chunk in service.stored["x"].items() if key[0] == "long.py"] == [1]
    assert index_tree(client, tree, "x").files_unchanged == 4


async def test_what_another_indexer_stored_meanwhile_is_not_deleted(service: FakeService) -> None:
    """Two whose trees differ in a file would delete each other's version, and nothing of it would be left."""

    def contents() -> list[str]:
        return sorted(chunk.content for chunk in service.stored["x"].values())

    with serving(service) as endpoint:
        async with AsyncClient(endpoint) as client:
            async with IndexRun(client, "x") as first:
                await first.load_stored()
                await first.take("c.py", b"def c():\n    return 3\n")
                await first.finish()
            async with IndexRun(client, "x") as one, IndexRun(client, "x") as two:
                for run in (one, two):
                    await run.load_stored()
                for run, number in ((one, 4), (two, 5)):
                    await run.take("c.py", f"def c():\n    return {number}\n".encode())
                    await run.drain()
                for run in (one, two):
                    await run.finish()
            assert contents() == ["def c():\n    return 4", "def c():\n    return 5"]
            async with IndexRun(client, "x") as last:
                await last.load_stored()
                await last.take("c.py", b"def c():\n    return 4\n")
                await last.finish()
    assert contents() == ["def c():\n    return 4"]


def test_a_codebase_that_is_deleted_while_it_is_listed_is_sent_whole(
    service: FakeService, client: Client, tree: Path
) -> None:
    """What was listed before is no more."""
    index_tree(client, tree, "x")
    service.page_size = 1

    def delete_codebase(request: Any) -> None:
        if request.page_token == "2":
            service.stored.pop("x", None)

    service.before_list = delete_codebase
    report = index_tree(client, tree, "x")
    assert (report.created, report.files_changed, report.files_unchanged) == (True, 3, 0)
    assert len(service.stored["x"]) == 4


def test_a_codebase_that_another_makes_in_the_same_moment_is_taken(
    service: FakeService, client: Client, tree: Path
) -> None:
    service.stored["x"], service.unlisted = {}, 1
    report = index_tree(client, tree, "x")
    assert (report.created, report.chunks_embedded, len(service.stored["x"])) == (False, 4, 4)


def test_a_taken_codebase_that_is_not_to_be_seen_is_named(service: FakeService, client: Client, tree: Path) -> None:
    service.stored["x"], service.unlisted = {}, 2
    with pytest.raises(IndexingFailed, match="it exists") as failure:
        index_tree(client, tree, "x")
    assert failure.value.reason == "CODEBASE_EXISTS"


def test_an_old_version_left_by_an_interrupted_run_is_deleted(service: FakeService, client: Client, tree: Path) -> None:
    index_tree(client, tree, "x")
    [(key, chunk)] = [(key, chunk) for key, chunk in service.stored["x"].items() if key[0] == "pkg/c.py"]
    old = type(chunk)()
    old.CopyFrom(chunk)
    old.file_sha256 = b"o" * 32
    service.stored["x"][(key[0], old.file_sha256, 0)] = old
    report = index_tree(client, tree, "x")
    assert (report.files_unchanged, report.chunks_deleted) == (3, 1)
    assert len(service.stored["x"]) == 4


def test_skipped_files_are_counted_with_examples(client: Client, tree: Path) -> None:
    (tree / "latin.py").write_bytes("# caf\xe9\n".encode("latin-1"))
    report = index_tree(client, tree, "x")
    assert dict(report.skipped) == {"not UTF-8": 1}
    assert report.skipped_examples == {"not UTF-8": ["latin.py"]}


def test_progress_counts_every_file_once(client: Client, tree: Path) -> None:
    class Recorder(NoProgress):
        found, done, chunks = 0, 0, 0

        def files_found(self, count: int) -> None:
            self.found = count

        def file_done(self, path: str) -> None:
            self.done += 1

        def chunk_done(self) -> None:
            self.chunks += 1

    (tree / "empty.py").touch()
    recorder = Recorder()
    index_tree(client, tree, "x", progress=recorder)
    assert (recorder.found, recorder.done, recorder.chunks) == (4, 4, 4)


def test_progress_is_told_of_a_pause_and_may_end_the_run(service: FakeService, client: Client, tree: Path) -> None:
    """A wait of minutes had better say why; and whoever gave up meanwhile is heard."""

    class Impatient(NoProgress):
        told: list[tuple[str, float]] = []  # noqa: RUF012 - of one test

        def waiting(self, refusal: ClientError, seconds: float) -> None:
            self.told.append((refusal.reason, seconds))
            if len(self.told) == 2:
                raise ClientError("the caller gave up", code=grpc.StatusCode.CANCELLED)

    service.full = 9
    with pytest.raises(IndexingFailed, match="the caller gave up"):
        index_tree(client, tree, "x", progress=Impatient())
    assert [reason for reason, _ in Impatient.told] == ["OVERLOADED"] * 2
    assert all(0.1 <= seconds <= 0.4 for _, seconds in Impatient.told)
    assert service.streams == 2


def test_an_unreachable_service_names_the_next_step(tree: Path) -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(ClientError, match="is `duovec up` running") as failure:
        index_tree(client, tree, "x")
    assert failure.value.code == grpc.StatusCode.UNAVAILABLE


def test_what_is_within_a_place_is_told_by_whole_names() -> None:
    paths = ["a", "a/b.py", "ab/c.py", "d/a/e.py", "f/g/h/i.py", "f/g.py", "", "j"]
    assert within(paths, {"a", "f/g"}) == ["a", "a/b.py", "f/g/h/i.py"]
    assert within(paths, set()) == []


def test_very_many_files_that_cannot_be_read_are_passed_over_soon() -> None:
    """As after a share went away: compared each with each they took 97 s, and an AsyncClient's loop stood still."""
    done = subprocess.run([sys.executable, "-c", MANY_UNREADABLE], capture_output=True, text=True, check=True)
    assert done.stdout == "['src/gone.py']\n"
