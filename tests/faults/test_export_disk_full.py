"""A disk that is full in mid-write: one line, exit code 1, nothing published."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_encoder import build_small, commit_small, entries

from export.errors import ExportError
from export.publish import publish_candidate
from export.repository import EncoderFolder, ServingState

# A file system of its own in a mount namespace of its own; nothing of it outlives the shell.
ON_A_SMALL_DISK = """
set -e
mount -t tmpfs -o size="$SIZE" tmpfs "$REPOSITORY"
code=0
"$@" || code=$?
ls -A "$REPOSITORY/compact-code"
exit "$code"
"""


def can_mount() -> bool:
    """Whether this machine lets us mount in a namespace of our own."""
    if shutil.which("unshare") is None:
        return False
    probe = ["unshare", "--mount", "--map-root-user", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs a mount namespace (unshare), which this machine refuses")
def test_an_export_that_does_not_fit_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    """The real command on a real file system of 20 MB; the graph has 46."""
    build = [str(Path(sys.executable).with_name("duovec-export")), "build", "--encoder", "compact-code"]
    result = subprocess.run(
        [
            *("unshare", "--mount", "--map-root-user", "sh", "-c", ON_A_SMALL_DISK, "sh"),
            *(*build, "--precision", "fp32", "--repository", str(tmp_path)),
        ],
        env={**os.environ, "SIZE": "20m", "REPOSITORY": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.stderr.splitlines()[-1:] == errors
    assert errors[0].startswith(f"error: cannot write {tmp_path}/compact-code/.staging-")
    assert errors[0].endswith(": No space left on device; free some space and run the command again")
    assert result.stdout.split() == [".build.lock"]


@pytest.mark.parametrize("limit_bytes", [0, 100, 1000])
def test_a_publish_that_cannot_write_its_manifest_or_configuration_changes_nothing(
    tmp_path: Path, limit_bytes: int
) -> None:
    """In a process that may write no larger file; the locks' few bytes are written before."""
    folder = EncoderFolder(tmp_path, "small-code")
    commit_small(folder, seed=1)
    build_small(folder, seed=2)
    before = folder.config_path.read_bytes()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
        try:
            publish_candidate(folder, None)
        except ExportError as exc:
            os.write(writing, str(exc).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    message = os.read(reading, 10_000).decode()
    os.close(reading)
    assert message.startswith(f"cannot write {folder.path}/")
    assert message.endswith(": File too large; free some space and run the command again")
    assert folder.config_path.read_bytes() == before
    assert folder.state() == ServingState(served=1, loaded=(1,), newest=1)
    assert entries(folder) == [".candidate", "1", "config.pbtxt"]
    assert publish_candidate(folder, None).version.number == 2
