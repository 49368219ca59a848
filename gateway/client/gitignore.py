"""`.gitignore` files as git reads them, in bounded time: whose trees are indexed is not always a friend.

Read otherwise are a bracket that escapes a `]` (`[\\]a]`), has a range from back to front (`[b-a]`) or is not closed;
and what stands for one character, where that is not of ASCII: to git it is several, one for each byte.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

MAX_IGNORE_BYTES = 128 * 1024
"""Of one `.gitignore`; the longest collections of templates have half of it, and compiling this much takes seconds."""

# Of a file that names a folder of git's: more than any path has.
_MAX_POINTER_BYTES = 16 * 1024

# What pathspec makes of `*` inside a segment, and of `**` at the beginning and between segments.
_STAR, _LEADING, _BETWEEN = "[^/]*", "^(?:.+/)?", "(?:/.+)?"
_BRACKET = re.compile(r"\\.|(?P<bracket>\[\^?\]?[^]]*\])", re.DOTALL)
# What Python warns of in a bracket, lest it mean something there one day.
_RESERVED = re.compile(r"[&|~[]")

# What pathspec would read otherwise: white space at a line's end, which it drops, and classes such as `[:alpha:]`. What
# is escaped, and a bracket that is not closed, are passed over as one.
_TOKEN = re.compile(r"\\?(?P<last>\s)\Z|\\.|(?P<bracket>\[[!^]?\]?(?:\[:[^]:]*:\]|[^]])*+(?:\]|\Z))", re.DOTALL)
_CLASS = re.compile(r"\[:([^]:]*):\]")
# To git they are of ASCII, and no bracket matches a slash. None begins with `!`, or holds a `]`.
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \t",
    "cntrl": "\0-\x1f\x7f",
    "digit": "0-9",
    "graph": "0-~!-.",
    "lower": "a-z",
    "print": "0-~ -.",
    "punct": ":-@!-.[-`{-~",
    "space": " \t\n\r",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


class IgnoreFileTooLarge(OSError):
    """A `.gitignore` above `MAX_IGNORE_BYTES`: what it would leave out is not known, so its folder is not read."""


@dataclass(frozen=True, slots=True)
class IgnoreFile:
    """One `.gitignore`, and the folder that its patterns are relative to."""

    folder: Path
    spec: GitIgnoreSpec


def read_ignore_file(folder: Path, file: Path | None = None) -> list[IgnoreFile]:
    """Read the patterns for a folder.

    Args:
        folder: What they are relative to.
        file: Where they are; `folder/.gitignore` when None.

    Returns:
        One, or none where there is no such regular file.

    Raises:
        IgnoreFileTooLarge: It has more than `MAX_IGNORE_BYTES`.
    """
    file = file or folder / ".gitignore"
    data = _read(file, MAX_IGNORE_BYTES)
    if data is None:
        return []
    if len(data) > MAX_IGNORE_BYTES:
        raise IgnoreFileTooLarge(f"{file} has more than {MAX_IGNORE_BYTES} bytes")
    # Git, too, passes over a byte order mark, as editors of Windows write it.
    return [IgnoreFile(folder, GitIgnoreSpec(_patterns(data.decode("utf-8-sig", "replace"))))]


def _read(file: Path, limit_bytes: int) -> bytes | None:
    """Read a file up to one byte beyond a limit; None where there is no such regular file."""
    try:
        # Git follows no link here either; and a pipe or a device would be waited for, or read, for ever.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError):  # A path that a file gave may hold a null character.
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as opened:
            return opened.read(limit_bytes + 1)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def ignores_above(root: Path) -> list[IgnoreFile]:
    """Read the `.gitignore` files above a root, outermost first; none outside a git work tree.

    Before them comes `info/exclude` of the repository.

    Raises:
        IgnoreFileTooLarge: One has more than `MAX_IGNORE_BYTES`.
    """
    above = []
    for folder in (root, *root.parents):
        if folder != root:
            above.append(folder)
        if (folder / ".git").exists():
            return [
                *read_ignore_file(folder, _repository(folder / ".git") / "info" / "exclude"),
                *(found for up in reversed(above) for found in read_ignore_file(up)),
            ]
    return []


def _repository(git: Path) -> Path:
    """Give the folder of a repository; `.git` is a file that names it in a linked work tree and in a submodule."""
    git = _named(git, b"gitdir: ") or git
    # A linked work tree has a folder of its own, which names the one that all share.
    return _named(git / "commondir", b"") or git


def _named(pointer: Path, prefix: bytes) -> Path | None:
    """Give the path that a file of git's holds after a prefix; None where it holds none."""
    data = _read(pointer, _MAX_POINTER_BYTES)
    if data is None or len(data) > _MAX_POINTER_BYTES or not data.startswith(prefix):
        return None
    return pointer.parent / os.fsdecode(data.removeprefix(prefix).rstrip(b"\r\n"))


def is_ignored(path: Path, ignores: Sequence[IgnoreFile], *, is_folder: bool) -> bool:
    """Tell whether git ignores a path.

    Args:
        path: It.
        ignores: The files that hold for it, outermost first.
        is_folder: Whether it is a folder.
    """
    # The deepest file that has an opinion wins, as in git.
    for ignore in reversed(ignores):
        # Surrogates, by which Python names files whose names are not UTF-8, match no pattern.
        relative = path.relative_to(ignore.folder).as_posix().encode("utf-8", "replace").decode()
        verdict = ignore.spec.check_file(relative + "/" if is_folder else relative).include
        if verdict is not None:
            return verdict
    return False


class _LinearPattern(GitIgnoreSpecPattern):
    """A pattern whose stars are not tried in every combination: ten of them on one long name would take years.

    Of each piece between stars the first place where it fits is taken and never given up, but for the last piece, which
    the end of the name holds. A later place leaves less for what follows, so nothing that matches is missed.
    """

    __slots__ = ()

    @classmethod
    def pattern_to_regex(cls, pattern: str) -> tuple[str | None, bool | None]:  # type: ignore[override]
        regex, include = super().pattern_to_regex(_for_pathspec(pattern))
        return (None if regex is None else _linear(regex)), include


def _for_pathspec(pattern: str) -> str:
    """Write a pattern so that pathspec reads it as git does; raises ValueError where to git it matches nothing."""
    trimmed = pattern.rstrip(" ")
    backslashes = len(trimmed) - len(trimmed.rstrip("\\"))
    if backslashes % 2:
        # The first of the spaces is escaped.
        trimmed = pattern[: len(trimmed) + 1]
    return _TOKEN.sub(_token_for_pathspec, trimmed)


def _token_for_pathspec(token: re.Match[str]) -> str:
    if token["last"]:
        return f"[{token['last']}]"
    if token["bracket"]:
        return "[" + _CLASS.sub(_members, token["bracket"][1:])
    return token[0]


def _members(found: re.Match[str]) -> str:
    if found[1] not in _CLASSES:
        raise ValueError(f"there is no class {found[0]}")
    return _CLASSES[found[1]]


def _linear(regex: str) -> str:
    regex = _BRACKET.sub(_bracket, regex)
    # A row of stars is one.
    while _STAR + _STAR in regex:
        regex = regex.replace(_STAR + _STAR, _STAR)
    first, *others = regex.split(_BETWEEN)
    if not others:
        return _linear_path(first)
    # Each path but the last ends with a segment.
    if first.startswith(_LEADING):
        head = f"^(?>(?:.+?/)??{_linear_path(first.removeprefix(_LEADING))}(?=/))"
    else:
        head = _linear_path(first)
    middle = "".join(f"(?>(?:/.+?)??{_linear_path(path)}(?=/))" for path in others[:-1])
    return f"{head}{middle}{_BETWEEN}{_linear_path(others[-1])}"


def _bracket(found: re.Match[str]) -> str:
    if found["bracket"] in {None, "[^/]"}:
        return found[0]
    # In git no bracket matches a slash; in pathspec those with `!` do.
    return "(?!/)[" + _RESERVED.sub(r"\\\g<0>", found["bracket"][1:])


def _linear_path(regex: str) -> str:
    first, *pieces = regex.split(_STAR)
    if not pieces:
        return first
    return first + "".join(f"(?>[^/]*?{piece})" for piece in pieces[:-1]) + _STAR + pieces[-1]


def _patterns(text: str) -> Iterator[_LinearPattern]:
    # To git nothing else ends a line. Of lines that are the same, the last one counts.
    lines = dict.fromkeys(line.removesuffix("\r") for line in reversed(text.split("\n")))
    for line in reversed(lines):
        # Git passes over what is no pattern, such as a lone `!`.
        with contextlib.suppress(ValueError, re.error, RecursionError, OverflowError):
            yield _LinearPattern(line)
