"""Globs of paths, against a matcher that walks the segments."""

import random
import re
from fnmatch import translate

import pytest

from gateway.errors import InvalidInput
from gateway.rpc.path_globs import MAX_DISTINCT_CHARS, MAX_GLOBS, path_range, path_regex


def matches(glob: str, path: str) -> bool:
    """The reference: no regular expression over slashes, and `**` by trying every split."""
    if "/" not in glob:
        glob = f"**/{glob}"
    glob = glob.removeprefix("/")
    if glob.endswith("/"):
        glob += "**"
    return segments_match(glob.split("/"), path.split("/"))


def segments_match(patterns: list[str], parts: list[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        least = 1 if len(patterns) == 1 else 0
        return any(segments_match(patterns[1:], parts[skip:]) for skip in range(least, len(parts) + 1))
    return bool(parts) and bool(re.match(translate(patterns[0]), parts[0])) and segments_match(patterns[1:], parts[1:])


@pytest.mark.parametrize(
    ("glob", "path", "matched"),
    [
        ("*.py", "a.py", True),
        ("*.py", "deep/er/a.py", True),
        ("/*.py", "deep/a.py", False),
        ("src/*.py", "src/a.py", True),
        ("src/*.py", "src/b/a.py", False),
        ("src/**/*.py", "src/a.py", True),
        ("src/**/*.py", "src/b/c/a.py", True),
        ("src/", "src/b/c", True),
        ("src/", "src", False),
        ("src/**", "srcs/a", False),
        ("**/test_?.py", "x/test_a.py", True),
        ("**/test_?.py", "test_ab.py", False),
        ("a.b", "axb", False),
        ("*.PY", "a.py", False),
        (r"app/\[id\].tsx", "app/[id].tsx", True),
        (r"a\*b", "a*b", True),
        (r"a\*b", "axb", False),
        ("naïve/*.日本", "naïve/x.日本", True),
        ("a+(b)|c^$", "a+(b)|c^$", True),
    ],
)
def test_what_a_glob_matches(glob: str, path: str, matched: bool) -> None:
    assert bool(re.search(path_regex("f", [glob]), path)) is matched
    start, below = path_range([glob])
    if matched:
        assert path >= start and (not below or path < below)


def test_random_globs_match_as_the_reference_does() -> None:
    source = random.Random(7)
    pieces = ["a", "b", "*", "?", "**", "a*", "*b", "?a", "ab", "."]
    paths = [
        "/".join(source.choices(["a", "b", "ab", "aab", "ba", ".", "bb"], k=source.randint(1, 5))) for _ in range(80)
    ]
    matched = 0
    for _ in range(400):
        glob = "/".join(piece for piece in source.choices(pieces, k=source.randint(1, 5)))
        if "." in glob.split("/"):
            continue
        regex, (start, below) = path_regex("f", [glob]), path_range([glob])
        for path in paths:
            expected = matches(glob, path)
            assert bool(re.search(regex, path)) is expected, (glob, path)
            assert not expected or (path >= start and (not below or path < below)), (glob, path)
            matched += expected
    assert matched > 1000


def test_one_of_several_is_enough_and_the_range_covers_all() -> None:
    regex = path_regex("f", ["src/a*", "src/b/"])
    assert [bool(re.search(regex, path)) for path in ("src/ax", "src/b/c", "src/c")] == [True, True, False]
    assert path_range(["src/a*", "src/b/"]) == ("src/", "src0")
    assert path_range(["*.py", "src/b/"]) == ("", "")
    assert path_range(["\U0010ffff*"]) == ("", "") or path_range(["/\U0010ffff*"]) == ("\U0010ffff", "")
    assert path_range(["/x\ud7ff"]) == ("x\ud7ff", "x\ue000")
    assert (path_regex("f", []), path_range([])) == ("", ("", ""))


@pytest.mark.parametrize(
    ("glob", "message"),
    [
        ("", "is empty"),
        ("a" * 257, "has 257 characters, the limit is 256"),
        ("*a" * 17, "has 17 wildcards, the limit is 16"),
        ("a**", "'**' inside 'a**'"),
        ("a//b", "has an empty part"),
        ("../x", "has an empty part, '.' or '..'"),
        ("[ab].py", "has '[', which patterns here do not have"),
        ("*.{ts,tsx}", "has '{'"),
        ("a\\", "has a '\\' with nothing after it"),
        ("a\\/b", "has a '\\' with nothing after it, or before '/'"),
        ("a\x00b", "has the control character"),
    ],
)
def test_a_malformed_glob_is_refused_by_name(glob: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        path_regex("filter.path_globs", ["ok", glob])
    assert caught.value.field == "filter.path_globs[1]"
    assert message in str(caught.value)


def test_too_many_globs_are_refused() -> None:
    with pytest.raises(InvalidInput, match=f"has {MAX_GLOBS + 1} patterns"):
        path_regex("filter.path_globs", ["x"] * (MAX_GLOBS + 1))


def test_too_many_different_characters_are_refused_before_the_database_compiles_them() -> None:
    letters = [chr(0x4E00 + number) for number in range(MAX_DISTINCT_CHARS)]
    halves = ["".join(letters[:128]), "".join(letters[128:])]
    assert path_regex("filter.path_globs", [*halves, "a/b"]) == f"^(?:(?:.*/)?{halves[0]}|(?:.*/)?{halves[1]}|a/b)$"
    with pytest.raises(InvalidInput, match=f"has {MAX_DISTINCT_CHARS + 1} different characters beyond ASCII"):
        path_regex("filter.path_globs", [*halves, "é"])
