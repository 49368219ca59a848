"""What of a partition is stored, deleted and noted as done, with a service in memory and no cluster."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from client.fake_service import FakeService, serving

from gateway.batch.checkpoint import Checkpoint
from gateway.batch.partitions import Columns, plan
from gateway.batch.store import Store, read
from gateway.client.client import Client
from gateway.client.indexer import index_tree

ONE = "def one():\n    return 1\n"


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def endpoint(service: FakeService) -> Iterator[str]:
    with serving(service) as endpoint:
        yield endpoint


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    (root / "a.py").write_text(ONE)
    return root


Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def run(endpoint: str, tmp_path: Path) -> Run:
    """Plans, does what is not noted, and gives a report a partition; `before_reading` is called in between."""
    done = str(tmp_path / "done")

    def run(
        source: Path, columns: Columns | None = None, before_reading: Callable[[], object] = lambda: None
    ) -> list[dict[str, Any]]:
        partitions = plan([str(source)], "x", columns=columns or Columns())
        before_reading()
        store = Store([endpoint], done, None, 0.0)
        waiting = [one.to_json() for one in partitions if one.id not in Checkpoint(done).done()]
        return [store.store(row) for row in read(pa.table({"partition": waiting})).to_pylist()] if waiting else []

    return run


def contents(service: FakeService) -> list[str]:
    return [chunk.content for _, chunk in sorted(service.stored["x"].items())]


def test_what_could_not_be_read_is_told_and_taken_again(service: FakeService, run: Run, root: Path) -> None:
    """A folder that one node does not see; when it does, sizes and times are the same."""
    away = root.with_name("away")
    (report,) = run(root, before_reading=lambda: root.rename(away))
    assert (report["files_failed"], report["files_skipped"], report["chunks_failed"]) == (1, 0, 0)
    assert report["failure"].startswith("a.py: unreadable on ")
    away.rename(root)
    (report,) = run(root)
    assert (report["files_failed"], report["failure"], report["chunks_embedded"]) == (0, "", 1)
    assert contents(service) == [ONE.rstrip()]
    assert run(root) == []


def test_what_cannot_be_read_for_now_stays_as_it_is_stored(service: FakeService, run: Run, root: Path) -> None:
    """It is not gone, and its neighbours are stored."""
    run(root)
    (root / "b.py").write_text("def two():\n    return 2\n")
    (report,) = run(root, before_reading=(root / "a.py").unlink)
    assert (report["files_failed"], report["chunks_embedded"]) == (1, 1)
    assert service.paths("x") == ["a.py", "b.py"]


def test_a_folder_that_could_not_be_listed_is_told(service: FakeService, run: Run, root: Path) -> None:
    """Whoever planned does not know what is in it."""
    (root / "sub").mkdir()
    (root / "sub" / "b.py").write_text("def two():\n    return 2\n")
    (root / "sub" / ".gitignore").write_text("x\n" * 70_000)
    (report,) = run(root)
    assert (report["files_failed"], report["chunks_embedded"]) == (1, 1)
    assert report["failure"].startswith("sub/: unreadable on ")
    (root / "sub" / ".gitignore").unlink()
    run(root)
    assert service.paths("x") == ["a.py", "sub/b.py"]


@pytest.mark.parametrize(
    "now", [b"import os\nimport sys\n", b"", b"\0\1", b"# caf\xe9\n", b"one = 1\n" * 125_001], ids=lambda now: now[:9]
)
def test_nothing_is_found_in_a_file_that_has_nothing_to_find(
    service: FakeService, run: Run, root: Path, now: bytes
) -> None:
    """The old version would answer searches for ever: no new chunk comes that would replace it."""
    run(root)
    (root / "a.py").write_bytes(now)
    (report,) = run(root)
    assert (report["files_failed"], report["chunks_failed"], contents(service)) == (0, 0, [])
    assert run(root) == []


def test_of_another_cut_of_the_same_file_nothing_is_left(
    service: FakeService, endpoint: str, run: Run, root: Path
) -> None:
    """As `duovec index --max-chars` makes it: the rest of it would be found beside the new chunks for ever."""
    (root / "a.py").write_text("def f():\n" + "".join(f"    call_{n}()\n" for n in range(100)))
    with Client(endpoint) as client:
        index_tree(client, root, "x", max_chars=500)
    assert len(contents(service)) > 1
    run(root)
    assert [chunk.file_chunk_count for chunk in service.stored["x"].values()] == [1]


def test_a_file_that_failed_keeps_its_old_version(service: FakeService, run: Run, root: Path) -> None:
    """Its partition is not done, and the next run puts it right."""
    run(root)
    (root / "a.py").write_text("def bad():\n    return 2\n")
    service.fail_items = {"bad": 3}
    (report,) = run(root)
    assert (report["chunks_failed"], contents(service)) == (1, [ONE.rstrip()])
    service.fail_items = {}
    run(root)
    assert contents(service) == ["def bad():\n    return 2"]


def test_a_row_that_cannot_be_indexed_is_skipped_alone(service: FakeService, run: Run, tmp_path: Path) -> None:
    """By the rules of files: bytes that are not UTF-8, in any column, more than a megabyte, NULs."""
    rows = {
        b"ok.py": ONE.encode(),
        b"latin.py": b"# caf\xe9\n",
        b"caf\xe9.py": ONE.encode(),
        b"large.py": b"one = 1\n" * 125_001,
        b"binary.py": b"one = 1\n" * 1025 + b"\0",
        b"/outside.py": b"",
    }
    path = tmp_path / "rows.parquet"
    for kind in (pa.binary(), pa.string()):
        # Whoever writes Parquet may call bytes text that are none.
        columns = [_unchecked(list(values), kind) for values in (rows.keys(), rows.values())]
        pq.write_table(pa.table(columns, names=["path", "content"]), path)
        (report,) = run(path)
        assert (report["refusal"], report["files_skipped"], report["chunks_failed"]) == ("", 5, 0)
        assert service.paths("x") == ["ok.py"]
        # The gateway would refuse the others, and with them the whole call.
        assert {file.path for file in service.deletes} == {"ok.py", "latin.py", "large.py", "binary.py"}
        assert run(path) == []


def test_a_path_that_two_rows_have_is_refused(service: FakeService, run: Run, tmp_path: Path) -> None:
    """Such as the README.md of two repositories: the one would delete the other. Rows that are alike are one file."""
    path = tmp_path / "rows.parquet"
    rows = [("a.py", "x", ONE), ("b.py", "x", ONE), ("a.py", "y", "def a():\n    return 2\n"), ("b.py", "x", ONE)]
    columns = [list(column) for column in zip(*rows, strict=True)]
    pq.write_table(pa.table(columns, names=["path", "repo", "content"]), path)
    (report,) = run(path)
    assert (report["refusal"], report["files_failed"], service.paths("x")) == ("", 1, ["b.py"])
    assert report["failure"].startswith(f"a.py: rows 0 and 2 of row group 0 of {path} differ, ")
    (report,) = run(path, Columns(codebase="repo"))
    assert (report["files_failed"], service.paths("x"), service.paths("y")) == (0, ["a.py", "b.py"], ["a.py"])


def _unchecked(values: list[bytes], kind: pa.DataType) -> pa.Array:
    """An array of text whose bytes nobody has looked at."""
    array = pa.array(values, pa.binary())
    return pa.Array.from_buffers(kind, len(array), array.buffers())
