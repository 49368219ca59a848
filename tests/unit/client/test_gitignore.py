"""`.gitignore` as git reads it, and in bounded time."""

import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.client.files import SkippedFile, find_changed, find_files
from gateway.client.gitignore import _CLASSES, MAX_IGNORE_BYTES, is_ignored, read_ignore_file
from tests.git_repository import GitRepository

_PARTS = ("a", "b", "*", "*", "?", "[ab]", "[!a]", "/", "**/", "/**/")
# Two stars that share a segment with something else are one to git, and are read in other ways by pathspec.
_READ_OTHERWISE = re.compile(r"\*\*\*|[^/]\*\*|\*\*[^/]|\*\*$")

WALK = """
import resource, sys
from pathlib import Path
from gateway.client.files import find_files

resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
print(len(find_files(Path(sys.argv[1])).paths))
"""


def ignored_by_git(root: Path, paths: list[str]) -> set[str]:
    check = ["git", "-C", str(root), "check-ignore", "--no-index", "--stdin", "-z"]
    result = subprocess.run(check, input="\0".join(paths).encode(), capture_output=True, check=False)
    assert result.returncode in {0, 1}, result.stderr
    return set(result.stdout.decode().split("\0")) - {""}


def ignored_by_us(root: Path, path: str) -> bool:
    ignores = read_ignore_file(root)
    parents = [root / parent for parent in Path(path).parents if parent != Path()]
    return is_ignored(root / path, ignores, is_folder=False) or any(
        is_ignored(parent, ignores, is_folder=True) for parent in parents
    )


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_random_patterns_mean_what_they_mean_to_git(tmp_path: Path) -> None:
    chance = random.Random(7)
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    found = 0
    for _ in range(120):
        pattern = "".join(chance.choices(_PARTS, k=chance.randint(2, 9))).rstrip("/") or "a"
        if _READ_OTHERWISE.search(pattern):
            continue
        (tmp_path / ".gitignore").write_text(pattern + "\n")
        names = ["".join(chance.choices("ab", k=chance.randint(1, 4))) for _ in range(100)]
        paths = sorted({"/".join(chance.choices(names, k=chance.randint(1, 5))) for _ in range(20)})
        expected = ignored_by_git(tmp_path, paths)
        assert {path for path in paths if ignored_by_us(tmp_path, path)} == expected, pattern
        found += len(expected)
    assert found > 100


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf.env\n*.log\n",
        b"*.log\n\xef\xbb\xbf.env\n",
        ".env\u2028.log\n.e\x85nv\n.env\x0cb\n*.log\x1c.env".encode(),
        b".env\r\n\r\n*.log\r\n",
        b".env\r*.log\nb\\ \r\n",
    ],
    ids=["byte order mark", "mark in the middle", "what Unicode calls a line end", "CRLF", "CR"],
)
def test_lines_are_those_that_git_reads(tmp_path: Path, data: bytes) -> None:
    """A first line that is lost may be the one that keeps secrets out."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_bytes(data)
    paths = [".env", "a.log", ".e", "nv", "b ", "b", ".env\u2028.log"]
    assert {path for path in paths if ignored_by_us(tmp_path, path)} == ignored_by_git(tmp_path, paths)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("name", [*_CLASSES, "word", ""])
def test_a_class_has_the_members_that_it_has_in_git(tmp_path: Path, name: str) -> None:
    """One that git does not know matches nothing, nor does the pattern around it."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    # In a folder, for to this command of git's a colon at the beginning is none of the name.
    paths = [f"AA/{chr(code)}{end}" for code in range(1, 128) if code != ord("/") for end in ("", "]", "x")]
    for bracket in (
        "[[:{}:]]",
        "[![:{}:]]",
        "[^_[:{}:]q]",
        "[]_[:{}:]-]",
        r"\[[:{}:]]",
        "[[:{}]]",
        "[:{}:]",
        "[[:{}:]",
    ):
        (tmp_path / ".gitignore").write_text(bracket.format(name) + "\n")
        ignores = read_ignore_file(tmp_path)
        ours = {path for path in paths if is_ignored(tmp_path / path, ignores, is_folder=False)}
        assert ours == ignored_by_git(tmp_path, paths), bracket


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("pattern", ["[[ab]", "[a&&b]", "[a||b]", "[a~~b]"])
def test_a_bracket_that_python_warns_of_is_read_as_by_git(tmp_path: Path, pattern: str) -> None:
    """The warning would be on a terminal, and fails a test."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text(pattern + "\n")
    paths = list("abc[&|~")
    assert {path for path in paths if ignored_by_us(tmp_path, path)} == ignored_by_git(tmp_path, paths)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize(
    "line",
    ["build/\t", "a\t", "a \t", "a\\\t", "a\\\\\t", "a ", "a\\ ", "a\\  ", "a\\\\ ", "a\xa0", "a\x0b", "\t", "a\\"],
    ids=repr,
)
def test_of_white_space_only_spaces_end_a_line_unheeded(tmp_path: Path, line: str) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text(line + "\n")
    paths = ["build/b", "build/\t", "a", "a\t", "a ", "a \t", "a  ", "a\\", "a\\\t", "a\xa0", "a\x0b", "\t"]
    assert {path for path in paths if ignored_by_us(tmp_path, path)} == ignored_by_git(tmp_path, paths)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_linked_work_tree_and_a_submodule_are_read_as_git_reads_them(tmp_path: Path) -> None:
    """There `.git` is a file; it is none of the sources, and names the repository that excludes more."""
    first = GitRepository(tmp_path / "first")
    first.commit({"a.py": "a = 1\n", "src/b.py": "b = 2\n"})
    first.git("worktree", "add", "--quiet", "../linked")
    first.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(first.folder), "part")
    exclude = first.folder / ".git" / "modules" / "part" / "info" / "exclude"
    for place, excluded in ((first.folder / ".git" / "info" / "exclude", "secret.txt"), (exclude, "own.txt")):
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"{excluded}\n")
    for folder in (first.folder, tmp_path / "linked", first.folder / "part"):
        assert folder == first.folder or (folder / ".git").is_file()
        for name in ("secret.txt", "own.txt", "src/secret.txt"):
            (folder / name).write_text("key\n")
        listed = ["git", "-C", str(folder), "ls-files", "--cached", "--others", "--exclude-standard"]
        known = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
        ours = [path for path in find_files(folder).paths if not path.startswith("part/")]
        assert sorted(ours) == sorted(path for path in known if path != "part")
        below = [path.removeprefix("src/") for path in ours if path.startswith("src/")]
        assert find_files(folder / "src").paths == below
        assert find_changed(folder, [".git", "a.py"]).paths == ["a.py"]


@pytest.mark.parametrize(
    "pointer", [b"gitdir: away\0\n", b"gitdir: \n", b"gitdir: gone\n", b"gitdir: " + b"a" * 100_000, b"\xff\xfe", b""]
)
def test_a_git_file_that_names_no_repository_ends_the_work_tree(tmp_path: Path, pointer: bytes) -> None:
    (tmp_path / ".gitignore").write_text("*.log\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").write_bytes(pointer)
    (tmp_path / "sub" / "a.py").touch()
    (tmp_path / "sub" / "b.log").touch()
    assert find_files(tmp_path / "sub").paths == ["a.py"]


@pytest.mark.parametrize(
    "pattern",
    [
        "*a" * 60 + "b",
        "**/a/" * 60 + "b",
        "a?*" * 60 + "b",
        "[!b]*" * 60 + "c",
        "**/*a*a*/" * 20 + "b",
        "*" * 5000 + "b",
    ],
    ids=["stars", "folders", "wildcards", "brackets", "both", "one long star"],
)
def test_stars_are_not_tried_in_every_combination(tmp_path: Path, pattern: str) -> None:
    """By backtracking the first would take longer than the sun shines; 20 s of CPU time are a hundred times enough."""
    (tmp_path / ".gitignore").write_text(pattern + "\n")
    deep = tmp_path.joinpath(*["a"] * 300)
    deep.mkdir(parents=True)
    (deep / ("a" * 250)).touch()
    (tmp_path / ("a" * 250)).touch()
    walked = subprocess.run([sys.executable, "-c", WALK, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(walked.stdout) in {1, 2, 3}


def test_a_gitignore_beyond_all_measure_closes_its_folder(tmp_path: Path) -> None:
    """What it would leave out is not known, and nothing of it is sent."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "secret.py").touch()
    (tmp_path / "open.py").touch()
    (tmp_path / "sub" / ".gitignore").write_text("secret.py\n" * (MAX_IGNORE_BYTES // 10 + 1))
    tree = find_files(tmp_path)
    assert tree.paths == ["open.py"]
    assert tree.skipped == [SkippedFile("sub/.gitignore", "too large"), SkippedFile("sub/", "unreadable")]
