"""`duovec sync`, `duovec watch`, the pre-push hook, and how a search says how old its hits are."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from client.fake_service import FakeService, serving
from git_repository import GitRepository
from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.cli.watch import _interruption

ROOT = Path(__file__).parents[3]
DUOVEC = Path(sys.executable).with_name("duovec")
runner = CliRunner()


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture(autouse=True)
def endpoint(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("COLUMNS", "200")
    with serving(service) as endpoint:
        monkeypatch.setenv("DUOVEC_ENDPOINT", endpoint)
        yield endpoint


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GitRepository:
    repository = GitRepository(tmp_path / "My Repo")
    repository.commit({"a.py": "def a():\n    return 1\n", "b.py": "def b():\n    return 2\n"})
    monkeypatch.chdir(repository.folder)
    return repository


def test_sync_says_what_it_did(service: FakeService, repository: GitRepository) -> None:
    """The first time why every file was compared, later from which commit."""
    first = repository.git("rev-parse", "HEAD")
    result = runner.invoke(app, ["sync"])
    assert result.exit_code == 0, result.output
    assert "every file was compared: no commit was recorded yet" in result.stdout
    assert f"my-repo holds {first[:10]}" in result.stdout
    repository.git("mv", "b.py", "c.py")
    second = repository.commit()
    result = runner.invoke(app, ["sync", "."])
    assert "files with a new name: 1" in result.stdout
    assert f"my-repo holds {second[:10]}, from {first[:10]}" in result.stdout
    repository.write({"a.py": "def a():\n    return 10\n"})
    report = json.loads(runner.invoke(app, ["sync", "--uncommitted", "--json"]).stdout)
    assert (report["commit_id"], report["base_commit_id"], report["uncommitted_count"]) == (second, second, 1)
    assert report["chunks_embedded"] == 1


def test_sync_fails_in_one_line(service: FakeService, repository: GitRepository, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    result = runner.invoke(app, ["sync", str(tmp_path / "plain")])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "not a git repository" in result.stderr
    service.fail_items = {"def a": 13}
    result = runner.invoke(app, ["sync"])
    assert result.exit_code == 1
    assert "is not recorded, since chunks failed; sync again" in result.stderr
    assert service.revisions == {}


def test_search_says_how_stale_it_is(service: FakeService, repository: GitRepository, tmp_path: Path) -> None:
    """Beside HEAD of the repository that it is asked in, where that knows the commit."""
    runner.invoke(app, ["sync"])
    short = repository.git("rev-parse", "HEAD")[:10]
    told = f"my-repo: indexed at {short} (main) on 2026-09-21 14:13"
    assert f"{told}, as HEAD is\n" in runner.invoke(app, ["search", "a"]).stderr
    for number in range(2):
        repository.commit({"a.py": f"def a():\n    return {number}\n"})
    assert f"{told}, 2 commits behind\n" in runner.invoke(app, ["search", "a"]).stderr
    [revision] = json.loads(runner.invoke(app, ["search", "a", "--json"]).stdout)["revisions"]
    assert (revision["commits_behind_head"], revision["commits_ahead_of_head"], revision["outdated"]) == (2, 0, False)
    runner.invoke(app, ["sync"])
    repository.git("checkout", "--quiet", "-b", "other", "HEAD~1")
    repository.commit({"d.py": "def d():\n    return 4\n"})
    assert ", 1 commit behind and 1 commit ahead of HEAD\n" in runner.invoke(app, ["search", "a"]).stderr
    service.revisions["my-repo"].outdated = True
    os.chdir(tmp_path)
    assert "on 2026-09-21 14:13, changed since\n" in runner.invoke(app, ["search", "a"]).stderr


def test_status_shows_which_commit_a_codebase_holds(service: FakeService, repository: GitRepository) -> None:
    runner.invoke(app, ["sync"])
    short = repository.git("rev-parse", "HEAD")[:10]
    assert f" {short} main " in runner.invoke(app, ["status"]).stdout
    service.revisions["my-repo"].outdated = True
    assert f" {short} main, changed since " in runner.invoke(app, ["status"]).stdout
    [codebase] = json.loads(runner.invoke(app, ["status", "--json"]).stdout)["codebases"]
    assert (codebase["revision"]["commit_id"][:10], codebase["revision"]["outdated"]) == (short, True)


def test_search_lists_files_alone(service: FakeService, repository: GitRepository) -> None:
    repository.commit({"a.py": "def a():\n    return 1\n\n\ndef aa():\n    return 11\n"})
    runner.invoke(app, ["sync"])
    assert runner.invoke(app, ["search", "a", "-l"]).stdout == "a.py\nb.py\n"
    both = ["search", "a", "--codebase", "my-repo", "--codebase", "other", "--files-with-matches"]
    assert runner.invoke(app, both).stdout.startswith(": a.py\n")
    result = runner.invoke(app, ["search", "a", "-l", "--json"])
    assert (result.exit_code, "give one of the two" in result.stderr) == (2, True)
    assert runner.invoke(app, ["search", "-i", "-l"]).exit_code == 2


def test_a_push_brings_the_codebase_into_line(
    service: FakeService, repository: GitRepository, tmp_path: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the hook, run by git itself; another branch does not, and no failure keeps a push back."""
    subprocess.run(["git", "init", "--quiet", "--bare", str(tmp_path / "remote")], check=True)
    repository.git("remote", "add", "origin", str(tmp_path / "remote"))
    hook = repository.folder / ".git" / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    shutil.copy(ROOT / "deploy" / "hooks" / "pre-push", hook)
    repository.git("config", "duovec.codebase", "mine")
    monkeypatch.setenv("PATH", f"{DUOVEC.parent}{os.pathsep}{os.environ['PATH']}")
    repository.git("push", "--quiet", "origin", "main")
    assert service.revisions["mine"].commit_id == repository.git("rev-parse", "HEAD")
    assert service.paths("mine") == ["a.py", "b.py"]
    repository.git("checkout", "--quiet", "-b", "feature")
    repository.commit({"c.py": "def c():\n    return 3\n"})
    repository.git("push", "--quiet", "origin", "feature")
    assert service.paths("mine") == ["a.py", "b.py"]
    monkeypatch.setenv("DUOVEC_ENDPOINT", "127.0.0.1:1")
    repository.git("push", "--quiet", "origin", "feature:main")
    assert repository.git("ls-remote", "origin", "main").split()[0] == repository.git("rev-parse", "HEAD")
    assert service.paths("mine") == ["a.py", "b.py"]


def test_watch_prints_what_it_does_and_ends_by_ctrl_c(service: FakeService, repository: GitRepository) -> None:
    with (
        subprocess.Popen(
            [DUOVEC, "watch", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=repository.folder,
        ) as process,
        ExitStack() as cleanup,
    ):
        cleanup.callback(process.kill)
        assert process.stdout and process.stderr
        assert json.loads(process.stdout.readline())["files_changed"] == 2
        repository.write({"a.py": "def a():\n    return 10\n"})
        report = json.loads(process.stdout.readline())
        assert (report["codebase_id"], report["files_changed"], report["chunks_embedded"]) == ("my-repo", 1, 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        told = process.stderr.read()
        assert told.startswith(f"watching {repository.folder} as my-repo, until Ctrl-C\n")
        assert told.endswith("stopped\n")
        assert "Traceback" not in told


def test_an_interruption_that_python_cannot_raise_ends_a_watch_all_the_same() -> None:
    """Python drops what is raised in a destructor: the event stays."""
    before = signal.getsignal(signal.SIGINT)
    with _interruption() as stop:
        assert not stop.is_set()
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
    assert signal.getsignal(signal.SIGINT) is before
