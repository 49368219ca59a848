import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from git_repository import GitRepository

from gateway.client.errors import ClientError
from gateway.client.files import MAX_FILE_BYTES, SkippedFile
from gateway.client.git import _SETTINGS, GitError, WorkTree


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    return GitRepository(tmp_path / "a repo")


LONG = "".join(f"line {number}\n" for number in range(50))


def test_head_and_branch(repository: GitRepository) -> None:
    commit_id = repository.commit({"a.py": "a = 1\n"})
    tree = WorkTree(repository.folder)
    head = tree.head()
    assert (head.commit_id, tree.branch(), tree.prefix) == (commit_id, "main", "")
    assert timedelta() <= datetime.now(UTC) - head.time < timedelta(minutes=5)
    repository.git("checkout", "--quiet", "--detach")
    assert tree.branch() == ""


def test_changes_between_commits_are_those_of_the_folder(repository: GitRepository) -> None:
    """A rename is a name that goes and a file that comes, and is counted; order and ancestry play no part."""
    older = repository.commit(
        {"src/keep.py": "k\n", "src/old name.py": LONG, "src/gone.py": "g\n", "src/é.py": "1\n", "other.py": "o\n"}
    )
    repository.git("mv", "src/old name.py", "src/new.py")
    newer = repository.commit({"src/gone.py": None, "src/é.py": "2\n", "src/added.py": "n\n", "other.py": "p\n"})
    whole, part = WorkTree(repository.folder), WorkTree(repository.folder / "src")
    assert part.prefix == "src"
    changes = part.changes(older, newer)
    assert sorted(file.path for file in changes.written) == ["added.py", "new.py", "é.py"]
    assert sorted(changes.gone) == ["gone.py", "old name.py"]
    assert changes.renamed_count == 1
    assert {file.path for file in whole.changes(older, newer).written} >= {"other.py", "src/new.py"}
    back = part.changes(newer, older)
    assert (sorted(file.path for file in back.written), sorted(back.gone)) == (
        ["gone.py", "old name.py", "é.py"],
        ["added.py", "new.py"],
    )
    assert part.commits_between(older, newer) == 1
    assert sorted(file.path for file in part.files(newer)) == ["added.py", "keep.py", "new.py", "é.py"]
    assert part.has(older)
    assert not part.has("1c" * 20)


def test_a_name_that_changes_hands_is_not_gone(repository: GitRepository) -> None:
    """b moves to c while a moves to b: what is at b now must stay."""
    older = repository.commit({"a.py": LONG, "b.py": LONG.replace("line", "row")})
    repository.git("mv", "b.py", "c.py")
    repository.git("mv", "a.py", "b.py")
    changes = WorkTree(repository.folder).changes(older, repository.commit())
    assert sorted(file.path for file in changes.written) == ["b.py", "c.py"]
    assert changes.gone == ["a.py"]


def test_bytes_come_from_the_commit(repository: GitRepository) -> None:
    """Not from the disk; what is no text is skipped for the reason that the disk's would be."""
    commit_id = repository.commit(
        {
            "a.py": "committed\n",
            "empty": "",
            "binary": b"a\0b",
            "latin": b"caf\xe9",
            "large": "x" * 3_000_000,
            "z.py": "z\n",
        }
    )
    (repository.folder / "link").symlink_to("a.py")
    commit_id = repository.commit({"z.py": "z\n"})
    repository.write({"a.py": "changed\n"})
    tree = WorkTree(repository.folder)
    with tree.blobs() as blobs:
        read = {file.path: blobs.read(file) for file in tree.files(commit_id)}
    assert len("x" * 3_000_000) > 2 * MAX_FILE_BYTES
    assert read == {
        "a.py": b"committed\n",
        "z.py": b"z\n",
        "empty": SkippedFile("empty", "empty"),
        "binary": SkippedFile("binary", "binary"),
        "latin": SkippedFile("latin", "not UTF-8"),
        "large": SkippedFile("large", "too large"),
        "link": SkippedFile("link", "symbolic link"),
    }


def test_bytes_that_git_lacks_are_named(repository: GitRepository) -> None:
    """Of a repository that lost some; what it has is read after that."""
    repository.commit({"a.py": "a\n", "b.py": "b\n"})
    tree = WorkTree(repository.folder)
    lost, kept = tree.files("HEAD")
    (repository.folder / ".git" / "objects" / lost.blob_id[:2] / lost.blob_id[2:]).unlink()
    with tree.blobs() as blobs:
        with pytest.raises(GitError, match=f"git has no bytes of 'a.py' .{lost.blob_id}"):
            blobs.read(lost)
        assert blobs.read(kept) == b"b\n"


def test_git_that_ends_between_two_files_is_told_so(repository: GitRepository) -> None:
    """As where somebody ends it, or memory is short: the file lacks nothing."""
    repository.commit({"a.py": "a\n", "b.py": "b\n"})
    tree = WorkTree(repository.folder)
    first, second = tree.files("HEAD")
    with pytest.raises(GitError, match="git cat-file ended by itself at 'b.py'"), tree.blobs() as blobs:
        assert blobs.read(first) == b"a\n"
        blobs._process.kill()
        blobs._process.wait()
        blobs.read(second)
    assert blobs._out.closed


def test_a_commit_of_a_year_beyond_all_is_refused(repository: GitRepository) -> None:
    """Git takes it, and a clock that was wrong for once is enough."""
    commit_id = repository.commit({"a.py": "a\n"})
    made = repository.git("cat-file", "commit", commit_id)
    raw = repository.folder / "raw"
    raw.write_text(re.sub(r"(committer .*> )\d+", r"\g<1>999999999999", made) + "\n")
    repository.git("reset", "--quiet", repository.git("hash-object", "-t", "commit", "-w", "raw"))
    with pytest.raises(GitError, match="a repo: the time of commit [0-9a-f]{40} cannot be recorded: year 33658"):
        WorkTree(repository.folder).head()


def test_uncommitted_changes_are_staged_unstaged_and_new(repository: GitRepository) -> None:
    repository.commit({"a.py": "a\n", "b.py": "b\n", "c.py": "c\n", ".gitignore": "*.log\n"})
    repository.write({"a.py": "A\n", "new.py": "n\n", "x.log": "l\n", "c.py": None})
    repository.write({"b.py": "B\n"})
    repository.git("add", "b.py")
    GitRepository(repository.folder / "inner").commit({"d.py": "d\n"})
    assert WorkTree(repository.folder).uncommitted() == ["a.py", "b.py", "c.py", "new.py"]


def test_what_git_refuses_is_one_line(repository: GitRepository, tmp_path: Path) -> None:
    with pytest.raises(GitError, match="plain: git rev-parse: not a git repository"):
        (tmp_path / "plain").mkdir()
        WorkTree(tmp_path / "plain")
    with pytest.raises(ClientError, match="a repo: git show: "):
        WorkTree(repository.folder).head()


def test_a_hook_s_variables_do_not_lead_elsewhere(
    repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git hands its hooks GIT_DIR, which would be asked instead of the folder."""
    mine = repository.commit({"a.py": "a\n"})
    other = GitRepository(tmp_path / "other")
    other.commit({"b.py": "b\n"})
    monkeypatch.setenv("GIT_DIR", str(other.folder / ".git"))
    assert WorkTree(repository.folder).head().commit_id == mine


def test_a_repository_s_own_programs_are_not_run(repository: GitRepository, tmp_path: Path) -> None:
    """Whose code is indexed is not always a friend."""
    repository.commit({"a.py": "a\n", ".gitattributes": "*.py diff=evil\n"})
    for name in ("core.fsmonitor", "diff.external", "diff.evil.textconv", "diff.evil.command"):
        repository.git("config", name, f"touch {tmp_path}/ran; false")
    newer = repository.commit({"b.py": "b\n"})
    (tmp_path / "ran").unlink(missing_ok=True)
    repository.write({"a.py": "A\n"})
    tree = WorkTree(repository.folder)
    assert tree.uncommitted() == ["a.py"]
    assert [file.path for file in tree.changes("HEAD~1", newer).written] == ["b.py"]
    assert not (tmp_path / "ran").exists()


def test_no_filter_and_no_hook_is_run_to_see_what_changed(repository: GitRepository, tmp_path: Path) -> None:
    """Whatever a filter is called; and a file that was only touched is told from one that was changed all the same."""
    repository.commit({"a.py": "a\n", "b.py": "b\n", "c.py": "c\n"})
    hook = repository.folder / ".git" / "hooks" / "post-index-change"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    for key in ("clean", "process"):
        repository.git("config", f"filter.Evil=one two.{key}", f"touch {tmp_path}/ran; false")
        repository.git("config", f"filter.{key}.{key}", f"touch {tmp_path}/ran; false")
        repository.git("config", f"filter.{key}.required", "true")
    attributes = repository.folder / ".git" / "info" / "attributes"
    attributes.parent.mkdir(exist_ok=True)
    attributes.write_text("a.py filter=process\nb.py filter=clean\nc.py filter=Evil=one\n")
    repository.git("config", "filter.Evil=one.clean", f"touch {tmp_path}/ran; false")
    for name in ("a.py", "b.py", "c.py"):
        os.utime(repository.folder / name, (1_600_000_000, 1_600_000_000))
    assert WorkTree(repository.folder).uncommitted() == []
    repository.write({"b.py": "B\n", "c.py": "C\n"})
    assert WorkTree(repository.folder).uncommitted() == ["b.py", "c.py"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("knows_the_variable", [True, False])
def test_a_partial_clone_gets_nothing_from_its_remote(
    repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, knows_the_variable: bool
) -> None:
    """Else git would run what the repository is set to reach it by; what is there is enough to compare two commits."""
    if not knows_the_variable:
        monkeypatch.setitem(_SETTINGS, "GIT_NO_LAZY_FETCH", "0")
    older = repository.commit({"a.py": LONG, "b.py": "b\n"})
    repository.git("mv", "b.py", "d.py")
    newer = repository.commit({"a.py": None, "c.py": f"{LONG}more\n"})
    repository.git("config", "uploadpack.allowFilter", "true")
    for kept in ("blob:none", "tree:0"):
        repository.git("clone", "--quiet", f"--filter={kept}", f"file://{repository.folder}", str(tmp_path / kept))
    clone = GitRepository(tmp_path / "blob:none")
    clone.git("config", "remote.origin.url", "ssh://nowhere/x")
    clone.git("config", "core.sshCommand", f"touch {tmp_path}/ran; false")
    tree = WorkTree(clone.folder)
    assert (tree.has(older), tree.has("1c" * 20)) == (True, False)
    changes = tree.changes(older, newer)
    assert ([file.path for file in changes.written], changes.gone) == (["c.py", "d.py"], ["a.py", "b.py"])
    with tree.blobs() as blobs:
        assert blobs.read(changes.written[0]) == f"{LONG}more\n".encode()
    with (
        tree.blobs() as blobs,
        pytest.raises(GitError, match="git cat-file ended by itself at 'a.py' .* partial clone"),
    ):
        blobs.read(next(tree.files(older)))
    assert not (tmp_path / "ran").exists()
    # Without trees there is nothing to compare with.
    assert not WorkTree(tmp_path / "tree:0").has(older)
