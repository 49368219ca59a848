"""How sources are cut into partitions, and what is remembered of them."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gateway.batch import partitions
from gateway.batch.checkpoint import Checkpoint
from gateway.batch.partitions import Columns, Partition, plan
from gateway.client.errors import ClientError
from gateway.client.files import FileTree, SkippedFile, find_files


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    for number in range(5):
        (root / f"{number}.py").write_text(f"def f_{number}():\n    return {number}\n", encoding="utf-8")
    return root


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "code.parquet"
    table = pa.table(
        {"path": ["a.py", "b.py", "c.py"], "content": ["a = 1\n", "b = 2\n", None], "repo": ["x", "y", "x"]}
    )
    pq.write_table(table, path, row_group_size=2)
    return path


def test_every_file_is_in_one_partition(tree: Path) -> None:
    """Of a size that was asked for; what is read is what is there."""
    planned = plan([str(tree)], "mine", columns=Columns(), files_per_partition=2)
    assert [len(partition.paths) for partition in planned] == [2, 2, 1]
    files = [found for partition in planned for found in partition.files()]
    assert files == [("mine", f"{number}.py", (tree / f"{number}.py").read_bytes()) for number in range(5)]


def test_a_partition_travels_as_text(tree: Path, parquet: Path) -> None:
    """And is the same on the other side, by its id."""
    for partition in plan([str(tree), str(parquet)], "mine", columns=Columns(codebase="repo")):
        assert Partition.from_json(partition.to_json()) == partition
        assert Partition.from_json(partition.to_json()).id == partition.id


def test_what_changes_is_another_partition_and_nothing_else_is(tree: Path) -> None:
    """A file of the same length, too: its time tells."""
    before = {
        partition.paths: partition.id for partition in plan([str(tree)], "m", columns=Columns(), files_per_partition=1)
    }
    (tree / "3.py").write_text("def f_3():\n    return 4\n", encoding="utf-8")
    os.utime(tree / "3.py", ns=(1, 1))
    after = {
        partition.paths: partition.id for partition in plan([str(tree)], "m", columns=Columns(), files_per_partition=1)
    }
    assert {paths for paths in before if before[paths] != after[paths]} == {("3.py",)}


def test_two_folders_that_have_a_path_are_refused(tree: Path, tmp_path: Path) -> None:
    """The one would delete the other. Files that are alike do no harm."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "1.py").write_bytes((tree / "1.py").read_bytes())
    assert len(plan([str(tree), str(other), str(tree)], "mine", columns=Columns())) == 3
    (other / "1.py").write_text("def f_1():\n    return 2\n", encoding="utf-8")
    with pytest.raises(ClientError, match=f"^{tree}/1.py and {other}/1.py differ, and are one path in codebase 'mine'"):
        plan([str(tree), str(other)], "mine", columns=Columns())


def test_a_file_that_vanishes_while_it_is_planned_is_gone(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that vanished before; the others are planned."""

    def walk_and_lose(root: Path) -> FileTree:
        found = find_files(root)
        (root / "3.py").unlink()
        return found

    monkeypatch.setattr(partitions, "find_files", walk_and_lose)
    planned = plan([str(tree)], "m", columns=Columns(), files_per_partition=1)
    assert [partition.paths for partition in planned] == [("0.py",), ("1.py",), ("2.py",), ("4.py",)]


@pytest.mark.parametrize("place", ["{}", "file://{}"])
def test_parquet_is_cut_by_row_groups(parquet: Path, place: str) -> None:
    """By path and by URI; a row names its codebase, and one without content is empty."""
    first, second = plan([place.format(parquet)], "mine", columns=Columns(codebase="repo"))
    assert list(first.files()) == [("x", "a.py", b"a = 1\n"), ("y", "b.py", b"b = 2\n")]
    assert list(second.files()) == [("x", "c.py", SkippedFile("c.py", "empty"))]
    (whole, _) = plan([place.format(parquet)], "mine", columns=Columns())
    assert [codebase_id for codebase_id, _, _ in whole.files()] == ["mine", "mine"]


@pytest.fixture
def object_store(parquet: Path) -> Iterator[str]:
    """Serves the Parquet file as an object store would, to whoever has the key; gives its address."""
    data = parquet.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            known = "Credential=minio/" in self.headers["Authorization"] and self.path == "/code/2026/a.parquet"
            first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            body = data[int(first) : int(last) + 1 if last else None] if known else b""
            self.send_response((206 if "Range" in self.headers else 200) if known else 404)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", "Mon, 23 Nov 2026 10:00:00 GMT")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_object_store_is_read_where_it_was_planned(object_store: str) -> None:
    """By its own endpoint and key, on every node. What is done stays done when the key is another one."""
    source = f"s3://minio:{{}}@code/2026/a.parquet?endpoint_override={object_store}&scheme=http&region=us-east-1"
    first, _ = plan([source.format("secret")], "mine", columns=Columns())
    assert [path for _, path, _ in Partition.from_json(first.to_json()).files()] == ["a.py", "b.py"]
    assert first.id == plan([source.format("rotated")], "mine", columns=Columns())[0].id


def test_a_column_that_is_not_there_is_named(parquet: Path) -> None:
    """Before any node begins."""
    with pytest.raises(ClientError, match=r"has no column body; it has content, path, repo"):
        plan([str(parquet)], "mine", columns=Columns(content="body"))


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Of either kind."""
    for name in ("gone", "gone.parquet"):
        with pytest.raises(FileNotFoundError, match=name):
            plan([str(tmp_path / name)], "mine", columns=Columns())


def test_what_is_done_is_remembered(tmp_path: Path) -> None:
    """One file each; what was being written when a node died does not count."""
    checkpoint = Checkpoint(str(tmp_path / "done"))
    assert checkpoint.done() == set()
    checkpoint.record("ab", {"chunks": 1})
    (tmp_path / "done" / "cd.json.part").write_text("{")
    assert Checkpoint(f"file://{tmp_path}/done").done() == {"ab"}


def test_a_place_of_nothing_that_is_known_is_named() -> None:
    """Of sources as of what is done."""
    with pytest.raises(ClientError, match="nowhere://code is no place: Unrecognized filesystem type"):
        plan(["nowhere://code"], "x", columns=Columns())
    with pytest.raises(ClientError, match="nowhere://done is no place"):
        Checkpoint("nowhere://done")
