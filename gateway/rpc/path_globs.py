"""Glob patterns of paths, as regular expressions of PostgreSQL.

What comes out is anchored on both sides and has neither captures, back-references, counts nor lookarounds, so that
PostgreSQL matches it by a finite automaton, without backtracking; the limits bound that automaton. Every character
that is not a wildcard is escaped.
"""

import re
from collections.abc import Sequence

from gateway.errors import InvalidInput
from gateway.rpc import validation

MAX_GLOBS = 16
MAX_GLOB_CHARS = 256
MAX_WILDCARDS = 16
# Of all patterns together. PostgreSQL compiles each character beyond U+07FF apart: 256 take it a tenth of a second, the
# 4,000 that the other limits allow a core for a minute.
MAX_DISTINCT_CHARS = 256

_WILDCARDS = {"*": "[^/]*", "?": "[^/]"}
_LAST_CODE_POINT = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


def path_regex(field: str, globs: Sequence[str]) -> str:
    """A regular expression that matches the paths that any of the globs matches; empty for no globs.

    Raises:
        InvalidInput: There are too many, or one is too long, has too many wildcards, or is malformed; or together they
            have too many different characters.
    """
    if len(globs) > MAX_GLOBS:
        raise InvalidInput(field, f"has {len(globs)} patterns, the limit is {MAX_GLOBS}")
    if not globs:
        return ""
    distinct_count = len({character for glob in globs for character in glob if not character.isascii()})
    if distinct_count > MAX_DISTINCT_CHARS:
        raise InvalidInput(
            field,
            f"has {distinct_count} different characters beyond ASCII, the limit is {MAX_DISTINCT_CHARS}; "
            "send fewer or shorter patterns",
        )
    return f"^(?:{'|'.join(_regex_of(f'{field}[{index}]', glob) for index, glob in enumerate(globs))})$"


def path_range(globs: Sequence[str]) -> tuple[str, str]:
    """Bounds of the paths that valid globs can match: at least the first and, where it is not empty, below the second.

    They hold in the order of code points; an index over paths finds the matching ones by them.
    """
    prefixes = [_literal_prefix(glob) for glob in globs]
    # Of two strings in order, whatever both begin with all between them begin with.
    first, last = min(prefixes, default=""), max(prefixes, default="")
    prefix = first[
        : next((n for n, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    ]
    end = prefix
    while end and ord(end[-1]) == _LAST_CODE_POINT:
        end = end[:-1]
    if end:
        following = ord(end[-1]) + 1
        end = end[:-1] + chr(_SURROGATES.stop if following in _SURROGATES else following)
    return prefix, end


def _regex_of(field: str, glob: str) -> str:
    validation.label(field, glob, limit=MAX_GLOB_CHARS, required=True)
    wildcard_count = len(re.findall(r"\*+|\?", glob))
    if wildcard_count > MAX_WILDCARDS:
        raise InvalidInput(field, f"has {wildcard_count} wildcards, the limit is {MAX_WILDCARDS}; split the pattern")
    segments = _segments(glob)
    regex = ""
    for number, segment in enumerate(segments):
        is_last = number == len(segments) - 1
        if segment == "**":
            regex += ".+" if is_last else "(?:.*/)?"
        else:
            regex += _segment_regex(field, segment) + ("" if is_last else "/")
    return regex


def _segments(glob: str) -> list[str]:
    """The parts between slashes, with what the short forms stand for: `*.py`, `src/`, `/setup.py`."""
    if "/" not in glob:
        return ["**", glob]
    anchored = glob.removeprefix("/")
    return (f"{anchored}**" if anchored.endswith("/") else anchored).split("/")


def _segment_regex(field: str, segment: str) -> str:
    if not segment or segment in {".", ".."}:
        raise InvalidInput(field, "has an empty part, '.' or '..' between slashes; send a pattern of a relative path")
    if "**" in segment:
        raise InvalidInput(field, f"has '**' inside {segment[:80]!r}; it must stand alone between slashes")
    regex, characters = "", iter(segment)
    for character in characters:
        if character == "\\":
            escaped = next(characters, "")
            if not escaped:
                raise InvalidInput(field, "has a '\\' with nothing after it, or before '/'; remove it")
            regex += _literal(escaped)
        elif character in "[]{}":
            raise InvalidInput(
                field, f"has {character!r}, which patterns here do not have; write '\\{character}' for the character"
            )
        else:
            regex += _WILDCARDS.get(character) or _literal(character)
    return regex


def _literal(character: str) -> str:
    # A backslash before a letter or a digit would mean something else.
    return character if character.isalnum() or ord(character) >= 128 else f"\\{character}"


def _literal_prefix(glob: str) -> str:
    segments = _segments(glob)
    prefix, characters = "", iter("/".join(segments))
    for character in characters:
        if character in _WILDCARDS:
            break
        prefix += next(characters) if character == "\\" else character
    return prefix
