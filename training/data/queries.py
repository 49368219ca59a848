"""Finds the queries that a unit answers by itself: its docstring, a comment, its name, a note on its change."""

import re
from collections import Counter
from dataclasses import dataclass

from training.data.anatomy import Anatomy, Prose
from training.data.blanking import words_of
from training.data.prose import clean, fault_of, paragraphs, sentences, shorten
from training.data.unit import Style, Unit, rank

# Of a unit's docstring one piece becomes the query: people type one sentence more often than five.
_FIRST_SENTENCE, _FIRST_PARAGRAPH = 0.5, 0.8
_SYMBOL_SHARE = 0.4
_CHANGE = re.compile(
    r"^\s*\.\. (?:versionchanged|versionadded|deprecated)::\s*[\w.]*"
    r"(?P<text>.*(?:\n(?![ \t]*\.\. )(?=[ \t]+\S).*)*)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Query:
    """A query that is answered by a unit.

    Attributes:
        text: What somebody might type, or code.
        style: Where it comes from.
        rows: Other rows than the unit's that it was made from.
        negatives: Keys of units that are known not to answer it.
        scope: Codebases of these rows.
    """

    text: str
    style: Style
    rows: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()


def docstring_query(unit: Unit, anatomy: Anatomy, *, seed: int, counts: Counter[str]) -> Query | None:
    """The first sentence, the first paragraph or all plain paragraphs of the docstring, chosen by a hash."""
    if anatomy.docstring is None:
        return None
    parts = paragraphs(anatomy.docstring.text)
    if not parts:
        counts["docstring without prose"] += 1
        return None
    choice = rank(seed, "docstring", unit.key)
    if choice < _FIRST_SENTENCE:
        text = next(iter(sentences(parts[0])), "")
    else:
        text = shorten(parts[0] if choice < _FIRST_PARAGRAPH else " ".join(parts)) or parts[0]
    return _checked(text, "docstring", counts)


def comment_query(anatomy: Anatomy, *, last_row: int, counts: Counter[str]) -> tuple[Query, Prose] | None:
    """The longest comment that is prose, and where it stands.

    Args:
        anatomy: Of the unit.
        last_row: Comments that end after this row are not in the passage.
        counts: Is told what was left out.
    """
    best: tuple[Query, Prose] | None = None
    for comment in anatomy.comments:
        text = clean(" ".join(comment.text.split("\n")))
        if comment.last > last_row:
            counts["comment beyond the passage"] += 1
        elif (query := _checked(shorten(text) or text, "comment", counts, is_comment=True)) is not None and (
            best is None or len(query.text) > len(best[0].text)
        ):
            best = query, comment
    return best


def symbol_query(unit: Unit, *, seed: int) -> Query | None:
    """The words of the unit's name, with its class's where the name is one word; for a part of the units, by a hash."""
    if unit.name.startswith("__") or rank(seed, "symbol", unit.key) >= _SYMBOL_SHARE:
        return None
    words = words_of(unit.name)
    if len(words) < 2 and unit.kind == "method":
        words = [*words_of(unit.symbol.rpartition(".")[0].rpartition(".")[2]), *words]
    words = [word for word in words if len(word) > 1]
    return Query(" ".join(words), "symbol") if 2 <= len(words) <= 8 else None


def change_query(anatomy: Anatomy, counts: Counter[str]) -> Query | None:
    """What a docstring's `versionchanged` or `deprecated` says, which is written like the subject of a commit."""
    if anatomy.docstring is None:
        return None
    for match in _CHANGE.finditer(anatomy.docstring.text):
        # The version may be repeated in the text, and the text may begin in the directive's own line.
        text = clean(" ".join(match["text"].split()))
        if (query := _checked(shorten(text) or text, "commit", counts)) is not None:
            return query
    return None


def _checked(text: str, style: Style, counts: Counter[str], *, is_comment: bool = False) -> Query | None:
    if (fault := fault_of(text, is_comment=is_comment)) is not None:
        counts[f"{style} {fault}"] += 1
        return None
    return Query(text, style)
