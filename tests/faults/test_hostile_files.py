"""Source trees that were made to break whoever indexes them: bounded time and memory, nothing read from outside."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fault_caller import API_KEY
from fault_site import Backends
from fuzz_caller import complaints
from hostile_sources import NAMES, UNUSABLE, hostile_tree, sources
from soak_run import SoakRun

from gateway.client.client import Client
from gateway.client.indexer import index_tree

pytestmark = pytest.mark.alone

CHILD = Path(__file__).with_name("chunk_child.py")


@pytest.mark.soak
def test_no_source_takes_the_chunker_long_or_much(tmp_path: Path, soak: SoakRun) -> None:
    # Up to the largest file that is indexed.
    size_bytes = 990_000 if soak.is_long else 30_000
    for name, data in sources(soak.chance("sources"), size_bytes=size_bytes, random_count=60 if soak.is_long else 1):
        (tmp_path / name).write_bytes(data)
    result = subprocess.run(
        [sys.executable, str(CHILD), str(tmp_path), str(60 if soak.is_long else 6)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 0, f"{lines[-1]}: {result.stderr[-2000:]}"
    chunked = [line for line in lines if "cpu_s" in line]
    assert len(chunked) == len(list(tmp_path.iterdir()))
    assert max(line["longest"] for line in chunked) <= 1500
    assert max(line["longest_symbol"] for line in chunked) <= 1024
    assert all(line["ordered"] for line in chunked)
    slowest = max(chunked, key=lambda line: line["cpu_s"])
    soak.report("hostile sources", {"files": len(chunked), "slowest": slowest})


@pytest.fixture(scope="module")
async def endpoint(shared_backends: Backends) -> AsyncIterator[str]:
    await shared_backends.mend()
    async with shared_backends.database() as url:
        gateway = shared_backends.gateway(url, "hostile")
        await gateway.start()
        yield gateway.url
        await gateway.stop()


def test_a_tree_of_traps_is_indexed_as_far_as_it_is_one(
    shared_backends: Backends, endpoint: str, tmp_path: Path
) -> None:
    """What has a name that can be sent is found by it; links, pipes, devices and what is no text are named and left."""
    secret = tmp_path / "secret.py"
    secret.write_text("def the_secret():\n    return 'of nobody'\n")
    root = tmp_path / "root"
    hostile_tree(root, secret)
    os.mkfifo(root / "pipe.py")
    os.mkfifo(root / "zip" / ".gitignore")
    if os.geteuid() == 0:
        os.mknod(root / "zero.py", 0o20666, os.makedev(1, 5))
    before = sorted(path.name for path in tmp_path.iterdir())
    with Client(endpoint, api_key=API_KEY) as client:
        report = index_tree(client, root, "traps")
        assert report.failures == []
        stored = {file.path for file in client.list_files("traps")}
        wanted = {*NAMES, "zip/entry.py"} - {*UNUSABLE}
        assert stored == wanted
        assert report.skipped["symbolic link"] == 6
        assert report.skipped["name with a control character or backslash"] == len(UNUSABLE)
        assert report.skipped["not UTF-8"] == 3
        assert report.skipped["too large"] == 1
        assert report.skipped["binary"] == 2  # one of them of a terabyte
        found = client.search("traps", "the secret of nobody", limit=100)
    assert len(found.hits) >= len(wanted)
    assert not any("of nobody" in hit.chunk.content or "root:" in hit.chunk.content for hit in found.hits)
    # Nothing was written beside it, either: no name was taken for a command or a path.
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert not any(Path(folder, "pwned").exists() for folder in (Path.cwd(), root, tmp_path))
    assert complaints(shared_backends.log_path("hostile")) == ""
