"""Which code a result was made by."""

import subprocess
from pathlib import Path

import pytest

from training.code_version import code_version


def git(root: Path, *words: str) -> str:
    names = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", "-C", str(root), *names, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_clone_that_was_edited_says_so(tmp_path: Path) -> None:
    """The commit alone would name code that did not run."""
    assert code_version(tmp_path).startswith("duovec ")
    assert "commit" not in code_version(tmp_path)
    git(tmp_path, "init", "--quiet")
    (tmp_path / "code.py").write_text("a = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "--quiet", "--message", "x")
    (tmp_path / "notes").write_text("of nobody's interest")
    assert code_version(tmp_path).endswith(f", commit {git(tmp_path, 'rev-parse', 'HEAD')}")
    (tmp_path / "code.py").write_text("a = 2\n")
    assert code_version(tmp_path).endswith(f", commit {git(tmp_path, 'rev-parse', 'HEAD')}, modified")


def test_a_clone_that_git_does_not_read_is_no_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another's clone in a container, a damaged one, or no git at all: any commit may have run."""
    (tmp_path / ".git").mkdir()
    assert code_version(tmp_path).endswith(", commit unknown")
    git(tmp_path, "init", "--quiet")
    assert code_version(tmp_path).endswith(", commit unknown")  # there is none yet
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_version(tmp_path).endswith(", commit unknown")
