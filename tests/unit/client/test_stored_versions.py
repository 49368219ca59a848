"""What an indexer knows of a million files has to fit beside everything else."""

import hashlib
import sys
from pathlib import Path

from gateway.client.client import AsyncClient, Client
from gateway.client.files import find_files
from gateway.client.index_run import IndexRun
from gateway.client.indexer import index_files, index_tree
from gateway.client.stored_versions import StoredVersion, StoredVersions, pack, unpack

from .fake_service import FakeService, serving

OLD, NEW = StoredVersion(b"o" * 32, 3, is_complete=True), StoredVersion(b"n" * 32, 70_000, is_complete=False)


def test_versions_are_packed_and_joined() -> None:
    assert unpack(pack([OLD]) + pack([NEW])) == [OLD, NEW]
    assert unpack(pack([])) == []
    # Python's allocator gives what has up to 80 bytes 80.
    assert sys.getsizeof(pack([OLD])) <= 80


def test_who_hands_in_a_dictionary_has_the_versions_in_it(tmp_path: Path) -> None:
    """A watch goes on with it; at once and after a run that finds everything there."""
    (tmp_path / "a.py").write_text("def a():\n    return 1\n\n\ndef b():\n    return 2\n")
    version = StoredVersion(hashlib.sha256((tmp_path / "a.py").read_bytes()).digest(), 2, is_complete=True)
    with serving(FakeService()) as endpoint, Client(endpoint) as client:
        for _ in range(2):
            stored: StoredVersions = {}
            index_tree(client, tmp_path, "x", stored=stored)
            assert {path: unpack(packed) for path, packed in stored.items()} == {"a.py": [version]}


async def test_a_file_that_is_done_is_forgotten_where_nobody_asks(tmp_path: Path) -> None:
    """Sent or there already; one that failed keeps its old version, and one that is gone is deleted."""
    service = FakeService()
    for name in ("same", "changed", "failing", "gone"):
        (tmp_path / f"{name}.py").write_text(f"def {name}():\n    return 1\n")
    with serving(service) as endpoint:
        async with AsyncClient(endpoint) as client:
            await index_tree(client, tmp_path, "x")
            (tmp_path / "gone.py").unlink()
            for name in ("changed", "failing", "new"):
                (tmp_path / f"{name}.py").write_text(f"def {name}():\n    return 2\n")
            service.fail_items = {"def failing": 13}
            async with IndexRun(client, "x") as run:
                await run.load_stored()
                assert len(run.stored) == 4
                await index_files(run, find_files(tmp_path), gone=run.stored)
            assert list(run.stored) == ["failing.py"]
    assert service.paths("x") == ["changed.py", "failing.py", "new.py", "same.py"]
