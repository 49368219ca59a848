import os
from pathlib import Path

import pytest

from gateway.client.files import SkippedFile, find_changed, find_files, read_source


def make(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x")


def skip_reason(root: Path, name: str, data: bytes) -> str:
    (root / name).write_bytes(data)
    skipped = read_source(find_files(root), name)
    assert isinstance(skipped, SkippedFile)
    assert skipped.path == name
    return skipped.reason


def test_the_order_depends_on_names_alone(tmp_path: Path) -> None:
    make(tmp_path, "b/z.py", "b/a.py", "a.py", "c.py", "a/x.py")
    assert find_files(tmp_path).paths == ["a.py", "c.py", "a/x.py", "b/a.py", "b/z.py"]


def test_gitignore_with_nesting_and_negation(tmp_path: Path) -> None:
    make(tmp_path, "a.log", "keep.log", "src/b.log", "src/c.py", "src/deep/d.log", "build/x.py", "src/build/y.py")
    (tmp_path / ".gitignore").write_text("*.log\n!keep.log\n/build/\n")
    (tmp_path / "src" / ".gitignore").write_text("!b.log\nc.py\n")
    found = find_files(tmp_path).paths
    assert found == [".gitignore", "keep.log", "src/.gitignore", "src/b.log", "src/build/y.py"]


def test_what_is_below_an_ignored_folder_cannot_be_won_back(tmp_path: Path) -> None:
    make(tmp_path, "out/a.py", "b.py")
    (tmp_path / ".gitignore").write_text("out/\n!out/a.py\n")
    assert find_files(tmp_path).paths == [".gitignore", "b.py"]


def test_gitignore_above_the_root_counts_inside_a_work_tree_only(tmp_path: Path) -> None:
    make(tmp_path, "src/a.py", "src/gen.py")
    (tmp_path / ".gitignore").write_text("/src/gen.py\n")
    assert find_files(tmp_path / "src").paths == ["a.py", "gen.py"]
    (tmp_path / ".git").mkdir()
    assert find_files(tmp_path / "src").paths == ["a.py"]


def test_an_ignored_folder_may_be_the_root(tmp_path: Path) -> None:
    make(tmp_path, ".git/config", "vendor/lib/a.py", "vendor/lib/b.log")
    (tmp_path / ".gitignore").write_text("/vendor/\n*.log\n")
    (tmp_path / "vendor" / "lib" / ".gitignore").write_text("*.log\n")
    assert find_files(tmp_path / "vendor" / "lib").paths == [".gitignore", "a.py"]


def test_folders_of_tools_are_never_entered(tmp_path: Path) -> None:
    make(tmp_path, ".git/config", "node_modules/m.js", "__pycache__/x.py", ".venv/y.py", "a/.hg/z", ".github/ci.yml")
    assert find_files(tmp_path).paths == [".github/ci.yml"]


def test_links_neither_loop_nor_leave(tmp_path: Path) -> None:
    root = tmp_path / "root"
    make(root, "a/b.py")
    make(tmp_path, "secret.py")
    (root / "a" / "loop").symlink_to(root)
    (root / "out.py").symlink_to(tmp_path / "secret.py")
    tree = find_files(root)
    assert tree.paths == ["a/b.py"]
    assert tree.skipped == [SkippedFile("out.py", "symbolic link"), SkippedFile("a/loop", "symbolic link")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\x7fELF\0\0", "binary"),
        (b"a" * 10_000 + b"\0", "binary"),
        (b"a" * 1_000_001, "too large"),
        ("caf\xe9".encode("latin-1"), "not UTF-8"),
    ],
)
def test_files_are_skipped_with_a_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    assert skip_reason(tmp_path, "f.py", data) == reason


def test_a_file_that_vanished_is_unreadable(tmp_path: Path) -> None:
    make(tmp_path, "a.py")
    tree = find_files(tmp_path)
    (tmp_path / "a.py").unlink()
    assert read_source(tree, "a.py") == SkippedFile("a.py", "unreadable")


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("link", "symbolic link"),
        ("pipe", "not a regular file"),
        ("folder", "not a regular file"),
        ("linked", "unreadable"),
    ],
)
def test_what_took_the_place_of_a_file_is_neither_followed_nor_waited_for(
    tmp_path: Path, what: str, reason: str
) -> None:
    """A tree may change after the walk: a link to a secret would be sent, a pipe waited on for ever."""
    root = tmp_path / "root"
    make(root, "a/b.py")
    make(tmp_path, "secrets/b.py")
    tree = find_files(root)
    (root / "a" / "b.py").unlink()
    if what == "link":
        (root / "a" / "b.py").symlink_to(tmp_path / "secrets" / "b.py")
    elif what == "pipe":
        os.mkfifo(root / "a" / "b.py")
    elif what == "folder":
        (root / "a" / "b.py").mkdir()
    else:
        (root / "a").rmdir()
        (root / "a").symlink_to(tmp_path / "secrets")
    assert read_source(tree, "a/b.py") == SkippedFile("a/b.py", reason)


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert find_files(tmp_path).skipped == [SkippedFile("pipe", "not a regular file")]


def test_a_name_that_is_not_utf8_is_skipped(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.py")).write_text("x = 1")
    [skipped] = find_files(tmp_path).skipped
    assert skipped.reason == "name not UTF-8"
    skipped.path.encode()


@pytest.mark.parametrize("name", ["a\tb.py", "a\x1b[31m.py", "a\x9b.py", "a\\b.py"])
def test_a_name_that_the_service_refuses_is_skipped(tmp_path: Path, name: str) -> None:
    """Sent, its chunks would fail at every run."""
    make(tmp_path, name)
    reason = "name with a control character or backslash"
    assert find_files(tmp_path).skipped == [SkippedFile(name, reason)]
    assert find_files(tmp_path / name).skipped == [SkippedFile(name, reason)]


def test_a_path_of_many_bytes_is_skipped(tmp_path: Path) -> None:
    """The database's index takes no key above 2,704 bytes."""
    folders = ["日" * 80] * 9  # 9 × (240 + 1) = 2169 bytes, 729 characters
    make(tmp_path, "/".join(folders[:8]) + "/fits", "/".join(folders) + "/long")
    tree = find_files(tmp_path)
    assert [path[-4:] for path in tree.paths] == ["fits"]
    assert [skipped.reason for skipped in tree.skipped] == ["path too long"]


def test_what_cannot_be_read_as_gitignore_is_passed_over(tmp_path: Path) -> None:
    """Git follows no link in its place; a pipe or a device would be read for ever."""
    make(tmp_path, "a/x.py", "b/x.py", "c/x.py")
    os.mkfifo(tmp_path / "a" / ".gitignore")
    (tmp_path / "b" / ".gitignore").symlink_to("/dev/zero")
    (tmp_path / "c" / ".gitignore").mkdir()
    assert find_files(tmp_path).paths == ["a/x.py", "b/x.py", "c/x.py"]


def test_a_line_that_is_no_pattern_leaves_the_others(tmp_path: Path) -> None:
    make(tmp_path, "a.py", "b.log")
    (tmp_path / ".gitignore").write_text("!\n/\n\\\n[z-a]\n*.log\n")
    assert find_files(tmp_path).paths == [".gitignore", "a.py"]


def test_a_root_that_is_no_source_file_is_skipped(tmp_path: Path) -> None:
    """A pipe would be waited on for ever; a name that is not UTF-8 cannot be sent."""
    os.mkfifo(tmp_path / "pipe")
    assert find_files(tmp_path / "pipe").skipped == [SkippedFile("pipe", "not a regular file")]
    latin = tmp_path / os.fsdecode(b"caf\xe9.py")
    latin.write_text("x = 1")
    assert find_files(latin).skipped == [SkippedFile("caf?.py", "name not UTF-8")]


def test_one_file_is_a_root_too(tmp_path: Path) -> None:
    make(tmp_path, "a.py", "b.py")
    tree = find_files(tmp_path / "a.py")
    assert tree.paths == ["a.py"]
    assert read_source(tree, "a.py") == b"x"


def test_a_missing_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        find_files(tmp_path / "nothing")


def test_of_changed_paths_those_are_found_that_the_walk_finds(tmp_path: Path) -> None:
    """Asked of every path there is, and of every folder, it gives what the walk gives."""
    make(tmp_path, "a.py", "x.log", "src/b.py", "src/c.py", "src/deep/d.log", "src/deep/e.py", "build/f.py")
    make(tmp_path, "node_modules/m/g.js", ".git/h", "src/keep/i.log")
    (tmp_path / ".gitignore").write_text("*.log\nbuild/\n")
    (tmp_path / "src" / ".gitignore").write_text("c.py\n!keep/*.log\n")
    (tmp_path / "away").symlink_to("src")
    os.mkfifo(tmp_path / "pipe")
    walked = find_files(tmp_path)
    every = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    found = find_changed(tmp_path, every)
    assert sorted(found.paths) == sorted(walked.paths)
    assert set(found.skipped) == set(walked.skipped)
    alone = [path for one in every if not (tmp_path / one).is_dir() for path in find_changed(tmp_path, [one]).paths]
    assert sorted(alone) == sorted(walked.paths)
    assert find_changed(tmp_path, ["src"]).paths == [path for path in walked.paths if path.startswith("src/")]
    assert find_changed(tmp_path, ["away/b.py", "gone.py", "a.py/under", "node_modules/m", "build/f.py"]).paths == []
