"""`duovec-batch` on a Ray cluster of two local nodes, through the real gateway."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from docs_pages import reader_at
from soak_run import SoakRun

from gateway.batch.partitions import Columns, plan
from gateway.client.chunking import chunk_file
from gateway.client.client import Client
from gateway.local.stack import Stack

PROGRAM = Path(sys.executable).with_name("duovec-batch")
TWO_NODES = Path(__file__).with_name("two_nodes.py")
# More than the nodes give themselves, so that what they waited for is told.
START_TIMEOUT_S = 200


@contextmanager
def cluster_of(program: Path, errors: Path) -> Iterator[str]:
    """Run a program that prints a cluster's address, for the length of the block.

    Args:
        program: Such as `two_nodes.py`; it ends when its stdin does.
        errors: File for its stderr, which is shown where it prints no address.
    """
    with errors.open("w", encoding="utf-8") as stderr:
        cluster = subprocess.Popen(
            [sys.executable, str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    assert cluster.stdin is not None
    assert cluster.stdout is not None
    try:
        answered, _, _ = select.select([cluster.stdout], [], [], START_TIMEOUT_S)
        address = cluster.stdout.readline().strip() if answered else ""
        assert address, f"no address within {START_TIMEOUT_S} s: {errors.read_text(encoding='utf-8', errors='replace')}"
        yield address
        cluster.stdin.close()
        cluster.wait(timeout=START_TIMEOUT_S)
    finally:
        if cluster.poll() is None:
            os.killpg(cluster.pid, signal.SIGKILL)
        cluster.wait()
        # What it would still have to read went with it.
        with suppress(BrokenPipeError):
            cluster.stdin.close()
        cluster.stdout.close()


@pytest.fixture(scope="module")
def ray_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cluster_of(TWO_NODES, tmp_path_factory.mktemp("ray") / "stderr") as address:
        yield address


def source_of(number: int) -> str:
    """A file of two functions, unlike the others."""
    return "\n\n".join(
        f"def {verb}_{number}(items):\n    return [item {sign} {number} for item in items]\n"
        for verb, sign in (("raise_by", "+"), ("lower_by", "-"))
    )


@pytest.fixture
def tree(tmp_path: Path, soak: SoakRun) -> Path:
    """A repository, of ten times as many files in the long form."""
    root = tmp_path / "repository"
    root.mkdir()
    for number in range(240 if soak.is_long else 24):
        (root / f"module_{number:03}.py").write_text(source_of(number), encoding="utf-8")
    (root / "picture.bin").write_bytes(b"\0\1")
    return root


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """Three row groups of four files, for two codebases."""
    numbers = range(100, 112)
    table = pa.table(
        {
            "where": [f"p/{number}.py" for number in numbers],
            "code": [source_of(number) for number in numbers],
            "repo": [f"parquet-{number % 2}" for number in numbers],
        }
    )
    path = tmp_path / "code.parquet"
    pq.write_table(table, path, row_group_size=4)
    return path


class Job:
    """Runs the command against the cluster and the stack."""

    def __init__(self, stack: Stack, ray_address: str, checkpoint: Path) -> None:
        self._fixed = [
            *("--ray-address", ray_address, "--endpoint", stack.endpoint, "--checkpoint", str(checkpoint)),
            *("--files-per-partition", "2", "--actors", "2", "--json"),
        ]
        # The nodes were started without the key: they read it from a file.
        self._fixed += ["--api-key-file", str(stack.admin_key_file)]

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [PROGRAM, *words, *self._fixed],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str) -> dict[str, Any]:
        process = self.start(*words)
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        report: dict[str, Any] = json.loads(output.splitlines()[-1])
        return report


@pytest.fixture
def job(stack: Stack, ray_address: str, tmp_path: Path) -> Job:
    return Job(stack, ray_address, tmp_path / "done")


def chunk_count(sources: dict[str, str]) -> int:
    """What the chunker makes of them here."""
    return sum(len(chunk_file(path, source.encode())) for path, source in sources.items())


@pytest.mark.soak
def test_a_job_that_is_killed_goes_on_where_it_was(
    job: Job, tree: Path, client: Client, tmp_path: Path, soak: SoakRun
) -> None:
    """What is done is not done again, but for what changed since."""
    known = {
        partition.id: partition
        for partition in plan([str(tree)], "batch-tree", columns=Columns(), files_per_partition=2)
    }
    started = job.start(str(tree), "--codebase", "batch-tree")
    done = tmp_path / "done"
    # Two at least: of these, one is to change, and the others are to stay.
    while len(list(done.glob("*.json"))) < 2:
        assert started.poll() is None, started.communicate()
        time.sleep(0.05)
    os.killpg(started.pid, signal.SIGKILL)
    started.communicate()
    before = list(done.glob("*.json"))
    changed = tree / next(paths[-1] for note in before if len(paths := known[note.stem].paths) == 2)
    changed.write_text(source_of(500), encoding="utf-8")

    report = job.run(str(tree), "--codebase", "batch-tree")
    sources = {path.name: path.read_text(encoding="utf-8") for path in tree.glob("*.py")}
    assert report["partition_count"] == len(known) == len(sources) // 2 + 1
    # What was sent when the job was killed may have been noted after it.
    assert len(before) - 1 <= report["resumed_count"] < len(known) - 1
    assert report["resumed_count"] + report["done_count"] == len(known)
    # What the changed file held before is gone, what its neighbour holds was not embedded again.
    assert client.get_codebase("batch-tree").chunk_count == chunk_count(sources)
    assert report["counts"]["chunks_unchanged"] > 0
    # A dozen partitions may be done by one node before an actor of the other has begun.
    assert len(report["nodes"]) == 2 or not soak.is_long
    (hit, *_) = client.search("batch-tree", "raise_by_500", limit=1).hits
    assert hit.chunk.path == changed.name


def test_parquet_goes_to_the_codebases_of_its_column(job: Job, parquet: Path, client: Client) -> None:
    """By row groups, with columns of any name."""
    options = ("--codebase", "none", "--path-column", "where", "--content-column", "code", "--codebase-column", "repo")
    report = job.run(str(parquet), *options)
    assert (report["partition_count"], report["done_count"]) == (3, 3)
    assert sum(report["nodes"].values()) == 3
    for codebase_id in ("parquet-0", "parquet-1"):
        assert client.get_codebase(codebase_id).chunk_count == 12


@pytest.mark.parametrize("wrong", ["No/Such/Id", None])
def test_a_row_of_no_codebase_or_path_fails_alone(job: Job, client: Client, tmp_path: Path, wrong: str | None) -> None:
    """One wrong row among millions must not stop them; its partition is not done."""
    path = tmp_path / "rows.parquet"
    table = pa.table(
        {
            "path": ["a.py", "b.py", "c.py", None],
            "content": [source_of(number) for number in (301, 302, 303, 304)],
            "repo": ["batch-rows", wrong, "batch-rows", "batch-rows"],
        }
    )
    pq.write_table(table, path, row_group_size=3)
    process = job.start(str(path), "--codebase", "none", "--codebase-column", "repo")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    report = json.loads(output.splitlines()[-1])
    assert (report["done_count"], report["failed_count"], report["counts"]["chunks_failed"]) == (0, 2, 3), errors
    assert re.search(r"^error: 3 chunks failed, such as .*(codebase_id|path): ", errors, re.MULTILINE)
    assert client.get_codebase("batch-rows").chunk_count == 4


def test_what_cannot_be_read_fails_the_job_and_nothing_else(job: Job, tree: Path, client: Client) -> None:
    """A folder whose `.gitignore` is too large cannot be listed; what is beside it is stored and done."""
    (tree / "sub").mkdir()
    (tree / "sub" / ".gitignore").write_text("x\n" * 70_000)
    process = job.start(str(tree), "--codebase", "batch-unreadable")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    report = json.loads(output.splitlines()[-1])
    assert (report["failed_count"], report["counts"]["files_failed"]) == (1, 1)
    assert report["done_count"] == report["partition_count"] - 1
    assert re.search(r"^error: 1 files failed, such as sub/: unreadable on ", errors, re.MULTILINE)
    sources = {path.name: path.read_text(encoding="utf-8") for path in tree.glob("*.py")}
    assert client.get_codebase("batch-unreadable").chunk_count == chunk_count(sources)


def test_a_cluster_that_does_not_start_says_why(tmp_path: Path) -> None:
    """Else a busy machine fails every test here, and nobody learns by what."""
    program = tmp_path / "no_nodes.py"
    program.write_text("raise SystemExit('no room for a node')")
    with pytest.raises(AssertionError, match="no room for a node"), cluster_of(program, tmp_path / "stderr"):
        pass


def test_what_is_longer_than_an_encoder_reads_is_counted(job: Job, tmp_path: Path) -> None:
    """Its vector is of the beginning alone; nobody is to believe otherwise."""
    path = tmp_path / "long.parquet"
    contents = [source_of(1), "def ones():\n    return [" + "1, " * 400 + "]\n"]
    pq.write_table(pa.table({"path": ["short.py", "long.py"], "content": contents}), path)
    counts = job.run(str(path), "--codebase", "batch-long")["counts"]
    assert (counts["chunks_embedded"], counts["chunks_truncated"], counts["chunks_failed"]) == (3, 1, 0)


def test_a_wrong_source_is_one_line(job: Job, parquet: Path) -> None:
    """Before any node begins."""
    process = job.start(str(parquet), "--codebase", "none")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("error: ")
    assert "has no column content, path" in errors
    assert errors.count("\n") == 1


def test_what_a_gateway_refuses_is_one_line(job: Job, tree: Path) -> None:
    """Its own words, not those of Ray about how tasks are tried again."""
    process = job.start(str(tree), "--codebase", "No/Such/Id")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    # Before it stands what Ray's core logs about the actors of Ray Data.
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, errors
    assert lines[0].startswith("error: codebase_id: is 'No/Such/Id'")
    assert lines[0].endswith("(what is done is noted; run again to go on) [INVALID_ARGUMENT]")
    assert "Traceback" not in errors
    assert "Warning" not in errors


def test_the_tutorial_does_what_it_says(stack: Stack, ray_address: str, tmp_path: Path) -> None:
    """Every command and program of the page, and what they print."""
    reader = reader_at(stack.endpoint, stack.api_key, tmp_path, replaced={}, RAY_ADDRESS=ray_address)
    reader.follow("tutorials/batch-indexer.md")
