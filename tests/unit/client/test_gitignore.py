"""`.gitignore` as git reads it, and in bounded time."""

import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.client.files import SkippedFile, find_files
from gateway.client.gitignore import MAX_IGNORE_BYTES, is_ignored, read_ignore_file

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
    check = ["git", "-C", str(root), "check-ignore", "--no-index", "--stdin"]
    result = subprocess.run(check, input="\n".join(paths), capture_output=True, text=True, check=False)
    assert result.returncode in {0, 1}, result.stderr
    return set(result.stdout.split("\n")) - {""}


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
