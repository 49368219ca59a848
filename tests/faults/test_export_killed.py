"""An exporter that is killed, at every step and at every operation on the disk: the repository stays valid."""

import asyncio
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from small_encoder import build_small, commit_small, entries
from typer.testing import CliRunner

from export.cli.main import app
from export.publish import publish_candidate, roll_back
from export.repository import EncoderFolder
from export.triton_control import TritonControl
from export.version import damaged_files
from gateway.local.triton import Triton

CHILD = Path(__file__).with_name("export_child.py")
# Audit events of what changes the disk; of `open` those that may write.
OPERATIONS = {"os.chmod", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def published(folder: Path, count: int) -> EncoderFolder:
    """A repository of its own with that many published versions of the small encoder."""
    encoder = EncoderFolder(folder, "small-code")
    for seed in range(1, count + 1):
        commit_small(encoder, seed=seed)
    return encoder


def killed_at(operation: int, repository: Path, work: Callable[[], object]) -> bool:
    """Do some work in a forked process that is killed at its n-th operation on the repository.

    Returns:
        Whether it was killed; False when the work was done before.
    """
    child = os.fork()
    if child == 0:
        count = 0

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            opens = event == "open" and int(str(arguments[2])) & WRITING
            # A tree is removed by names that are relative to an open folder.
            inside = event in {"os.remove", "os.rmdir"} or str(arguments[0]).startswith(str(repository))
            if (opens or event in OPERATIONS) and inside:
                count += 1
                if count == operation:
                    if opens:  # killed after it: the file is there, or emptied, and nothing is written yet
                        os.open(str(arguments[0]), int(str(arguments[2])), 0o644)
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            work()
        except BaseException:  # noqa: BLE001  # the parent sees the exit code; pytest must not go on in the child
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def check_valid(folder: EncoderFolder, served: set[int]) -> int:
    """What is served is whole, and `list` shows it; returns its number."""
    result = CliRunner().invoke(app, ["list", "--repository", str(folder.path.parent), "--json"])
    assert result.exit_code == 0, result.stderr
    (row,) = [row for row in json.loads(result.stdout)["versions"] if row["state"] == "served"]
    assert row["version"] in served
    version = folder.served()
    assert version is not None and damaged_files(version) == []
    assert version.manifest["version"] == version.number
    return version.number


def test_killed_while_publishing(tmp_path: Path) -> None:
    """Before every operation on the disk: version 1 is served, or version 2 once config.pbtxt is replaced.

    And what the exporter had built is published by the next one: nothing is built twice, nothing is left over.
    """
    outcomes = []
    for operation in itertools.count(1):
        folder = published(tmp_path / str(operation), 1)
        build_small(folder, seed=2)
        killed = killed_at(operation, folder.path, lambda: publish_candidate(folder, None))  # noqa: B023  # called at once
        served = check_valid(folder, {1, 2})
        outcomes.append(served)
        folder.clear_leftovers()
        if served == 1:
            assert publish_candidate(folder, None).version.number == 2
        assert entries(folder) == ["1", "2", "config.pbtxt"]
        if not killed:
            break
    # The commit is one operation: before it always the old version, after it always the new one.
    assert outcomes == sorted(outcomes) and (outcomes[0], outcomes[-1]) == (1, 2)
    assert len(outcomes) >= 5


def test_killed_while_building(tmp_path: Path) -> None:
    """The candidate is whole or not there; the next exporter clears the rest away."""
    folder = published(tmp_path, 1)
    for operation in itertools.count(1):
        killed = killed_at(operation, folder.path, lambda: build_small(folder, seed=2))
        check_valid(folder, {1})
        candidate = folder.candidate()
        assert candidate is None or damaged_files(candidate) == []
        folder.clear_leftovers()
        assert set(entries(folder)) - {".candidate"} == {"1", "config.pbtxt"}
        if not killed:
            break
    assert operation > 10


def test_killed_while_rolling_back(tmp_path: Path) -> None:
    """The one version or the other is served, and both stay."""
    outcomes = []
    for operation in itertools.count(1):
        folder = published(tmp_path / str(operation), 2)
        killed = killed_at(operation, folder.path, lambda: roll_back(folder, None))  # noqa: B023  # called at once
        outcomes.append(check_valid(folder, {1, 2}))
        folder.clear_leftovers()
        assert entries(folder) == ["1", "2", "config.pbtxt"]
        if not killed:
            break
    assert outcomes == sorted(outcomes, reverse=True) and (outcomes[0], outcomes[-1]) == (2, 1)


def test_killed_while_removing(tmp_path: Path) -> None:
    """A version that was being removed is whole or gone, never a part of it."""
    for operation in itertools.count(1):
        folder = published(tmp_path / str(operation), 2)
        old = folder.versions()[0]
        killed = killed_at(operation, folder.path, lambda: folder.remove(old))  # noqa: B023  # called at once
        check_valid(folder, {2})
        assert not old.folder.exists() or damaged_files(old) == []
        folder.clear_leftovers()
        assert set(entries(folder)) - {"1"} == {"2", "config.pbtxt"}
        if not killed:
            break
    assert not old.folder.exists() and operation > 5


STEPS = (
    "check the candidate",
    "give it a number",
    "write the warm-up data",
    "load it into Triton",
    "run the canary through Triton",
    "replace config.pbtxt",
    "done",
)


async def test_killed_at_every_step_while_triton_serves(tmp_path: Path) -> None:
    """Triton answers for the served version after each kill, and the next publish through it succeeds."""
    repository = tmp_path / "models"
    folder = published(repository, 1)
    triton = Triton(repository, ["small-code"], work_dir=tmp_path / "work", log_path=tmp_path / "triton.log")
    await triton.start()
    try:
        for number, step in enumerate(STEPS, start=1):
            build_small(folder, seed=number + 1)
            arguments = [sys.executable, str(CHILD), str(repository), "publish", step, triton.url]
            child = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
            stdout, _ = await asyncio.wait_for(child.communicate(), 60)
            assert child.returncode == -signal.SIGKILL
            # The steps are the exporter's own: one that is renamed must not leave this test without its kill.
            assert stdout.decode().splitlines() == list(STEPS[:number])
            served = check_valid(folder, {number, number + 1})
            assert served == number + (step == "done")
            with TritonControl(triton.url) as control:
                assert control.ready("small-code", served)
                folder.clear_leftovers()
                if served == number:
                    publish_candidate(folder, control)
                assert control.ready("small-code", number + 1)
            assert entries(folder) == [*map(str, range(1, number + 2)), "config.pbtxt"]
    finally:
        await triton.stop(grace_s=1)
