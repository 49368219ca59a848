"""Turns docstrings and comments into queries, and tells people's sentences from anything else."""

import inspect
import re

MIN_WORDS, MAX_WORDS, MAX_CHARS = 3, 100, 600

_SECTION = re.compile(
    r"^\s*(?:-{3,}|={3,}|~{3,}|>>> |\.\. |:\w+[^:`]*:(?!`)|[@\\]\w+|[*+-] |\d+\. |```"
    r"|(?:Args?|Arguments|Parameters?|Params|Returns?|Raises?|Yields?|Examples?|Notes?|See Also|References|Attributes|"
    r"Usage|Warnings?|Input|Output|Shape|Keyword [Aa]rguments|Inputs|Outputs|Methods|Todo|TODO)\s*:{0,2}\s*$)"
)
# `name(arguments) -> result`, alone in its line or before the first sentence, as C extensions write it.
_SIGNATURE = re.compile(r"^[A-Za-z_][\w.]*\([^()]*\)(?:\s*->\s*[\w\[\], .()]+?)?\s*(?:$|--?\s+|:\s+)")
_BRIEF = re.compile(r"[\\@](?:brief|short|details|note)\b\s*")
_LINK = re.compile(r"!?\[([^\]\[]*)\](?:\([^)]*\)|\[[^\]]*\])")
_UNDERLINE = re.compile(r"^\s*[-=~^]{3,}\s*$")
_ROLE = re.compile(r":[\w:+-]+:`~?([^`<]*?)(?:\s*<[^`>]*>)?`")
_LITERAL = re.compile(r"`{1,2}([^`]*)`{1,2}_{0,2}|\*{1,2}([^\s*][^*]*)\*{1,2}|\{@\w+\s+([^}]*)\}|</?[a-z]+/?>")
_SENTENCE_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\bcf)(?<!\bvs)(?<!\betc)(?<!\bal)[.!?](?=\s+[A-Z\"'`(]|$)")
_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
_LICENSE = re.compile(
    r"copyright|\blicen[sc]e|spdx|all rights reserved|warrant(?:y|ies)|redistribut|\(c\) ?\d{4}|@author", re.IGNORECASE
)
_MARKS = re.compile(
    r"\b(?:todo|fixme|xxx|hack|noqa|nosec|nolint|pragma|pylint|flake8|mypy|pyright|eslint|ruff|isort|clang-format|"
    r"fmt:|yapf|type: ?ignore|coverage|doctest:|NOLINT|region|endregion)\b|-\*-|^\W*(?:eof|fin|end)\W*$",
    re.IGNORECASE,
)
_GENERATED = re.compile(
    r"auto[- ]?(?:matically )?generated|do not (?:edit|modify)|generated (?:by|from|file|code)|see base class|"
    r"@inheritdoc|^(?:inherited from|overrides? |docstring inherited|return repr|see help\(|initialize self)",
    re.IGNORECASE,
)
# What a list, an example or another formal part was to go on.
_CUT_OFF = re.compile(
    r"(?:,|\b(?:like|see|as|by|with|where|e\.g\.|i\.e\.|for example|for instance|such as))$", re.IGNORECASE
)
_CODE = re.compile(
    r"[;{}]\s*$|[=!<>]=|(?<![<>=!])=(?!=)\s*[\w\"'(\[{]|\w\(\)?.*\)\s*$(?<=[(),])|->|=>|^\s*(?:if|for|while|return|import|"
    r"from|def|class|assert|print|elif|else|try|with|raise|self|yield|del|await|async|const|let|var|#)\b.*[:=(]"
)
_COMMON_WORDS = """
a an the of to for in on is are be was this that it and or if when from with by as at not no we can will all any
into only so but which then than each first same use used using returns return has have do does should must may
its there they these where while after before because since given whether it's don't isn't
"""
_COMMON = frozenset(_COMMON_WORDS.split())


def paragraphs(text: str) -> list[str]:
    """The plain paragraphs that begin a docstring or comment, each on one line, its markup dropped.

    They end where parameters, examples, lists or other formal parts begin.
    """
    found: list[list[str]] = [[]]
    lines = inspect.cleandoc(_BRIEF.sub("", text)).split("\n")
    lines[0] = _SIGNATURE.sub("", lines[0])
    for number, line in enumerate(lines):
        if _UNDERLINE.match(line):
            break
        if number + 1 < len(lines) and _UNDERLINE.match(lines[number + 1]) and line.strip():
            break  # a heading
        if _SECTION.match(line):
            break
        if line.strip():
            found[-1].append(line.strip())
        elif found[-1]:
            found.append([])
    return [cleaned for part in found if (cleaned := clean(" ".join(part)))]


def clean(text: str) -> str:
    """One line without the markup of reStructuredText, Markdown or Javadoc."""
    text = _LINK.sub(r"\1", _ROLE.sub(r"\1", _BRIEF.sub("", text)))
    text = _LITERAL.sub(lambda match: next((group for group in match.groups() if group), " "), text)
    return " ".join(text.replace("\\", "").split()).rstrip(":").strip()


def sentences(text: str) -> list[str]:
    """Split a paragraph into sentences."""
    found, start = [], 0
    for end in _SENTENCE_END.finditer(text):
        found.append(text[start : end.end()].strip())
        start = end.end()
    if rest := text[start:].strip():
        found.append(rest)
    return found


def shorten(text: str) -> str:
    """The first sentences of a text that fit the limits of a query."""
    kept = ""
    for sentence in sentences(text):
        longer = f"{kept} {sentence}".strip()
        if len(longer) > MAX_CHARS or len(_WORD.findall(longer)) > MAX_WORDS:
            break
        kept = longer
    return kept


def fault_of(text: str, *, is_comment: bool = False) -> str | None:
    """Why a text is no query that a person might type, or None.

    Args:
        text: One line, cleaned.
        is_comment: Comments are held to more: many are code that was switched off, or notes to tools.

    Returns:
        The name of the filter that it falls to: "license", "generated", "marker", "too short", "too long",
        "not English" or "not prose".
    """
    words = _WORD.findall(text)
    if _LICENSE.search(text):
        return "license"
    if _GENERATED.search(text):
        return "generated"
    if is_comment and _MARKS.search(text):
        return "marker"
    if len(words) < MIN_WORDS + is_comment:
        return "too short"
    if len(words) > MAX_WORDS or len(text) > MAX_CHARS:
        return "too long"
    if _CUT_OFF.search(text):
        return "not prose"
    letters = [char for char in text if char.isalpha()]
    if sum(not char.isascii() for char in letters) > 0.05 * len(letters):
        return "not English"
    if sum(char.isalpha() or char == " " for char in text) < 0.8 * len(text):
        return "not prose"
    is_common = not _COMMON.isdisjoint(word.lower() for word in words)
    if (is_comment or len(words) > 6) and not is_common:
        return "not prose"
    if is_comment and _CODE.search(text):
        return "not prose"
    return None
