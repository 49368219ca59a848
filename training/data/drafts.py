"""Finds the queries that the units of a package answer, and cuts them out of the answers."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from training.data.anatomy import Anatomy, dissect, without_rows
from training.data.blanking import blank_name
from training.data.calls import Definitions, caller_queries, queries_of_tests
from training.data.queries import Query, change_query, comment_query, docstring_query, symbol_query
from training.data.unit import Unit, passage_of
from training.data.versions import same_symbol_queries

MAX_PASSAGE_CHARS = 1500
"""As long as a chunk of the indexer."""

_MIN_CODE_CHARS, _MIN_CODE_ROWS = 60, 2


@dataclass(slots=True)
class Draft:
    """A unit on its way to be an answer.

    Attributes:
        unit: The unit.
        content: Its code without the text of its queries, at most 1,500 characters.
        queries: At most one of each style, and any number from feedback.
    """

    unit: Unit
    content: str
    queries: list[Query] = field(default_factory=list)

    @property
    def passage(self) -> str:
        """What is embedded."""
        return passage_of(self.unit.symbol, self.content)


def draft_package(
    units: list[Unit], *, seed: int, extra: Mapping[str, Sequence[Query]], counts: Counter[str]
) -> list[Draft]:
    """Make drafts of the units of one package.

    Args:
        units: All of the package, tests among them; they are sorted.
        seed: Of every choice.
        extra: Queries from elsewhere by the key of the unit that answers them.
        counts: Is told what each filter left out.

    Returns:
        A draft of each unit that has code enough, also where nothing asks for it.
    """
    units.sort(key=lambda unit: unit.key)
    counts["units"] += len(units)
    anatomies = {unit.key: dissect(unit) for unit in units}
    drafts = {}
    for unit in units:
        if unit.is_test:
            counts["units of tests"] += 1
        elif (draft := _own_queries(unit, anatomies[unit.key], seed, counts)) is not None:
            drafts[unit.key] = draft
    found: list[tuple[str, Query]] = list(same_symbol_queries(units))
    for language in sorted({unit.language for unit in units}):
        own = [unit for unit in units if unit.language == language]
        definitions = Definitions(own)
        found += caller_queries(own, anatomies, definitions, seed=seed).items()
        found += queries_of_tests([unit for unit in own if unit.is_test], anatomies, definitions)
    found += [(unit.key, query) for unit in units for query in extra.get(unit.key, ())]
    for key, query in found:
        if key in drafts and (
            query.style == "feedback" or query.style not in {one.style for one in drafts[key].queries}
        ):
            drafts[key].queries.append(query)
    counts["units without a query"] += sum(not draft.queries for draft in drafts.values())
    return list(drafts.values())


def _own_queries(unit: Unit, anatomy: Anatomy, seed: int, counts: Counter[str]) -> Draft | None:
    """A draft with the queries that stand in the unit itself, cut out of its code; None where little code is left."""
    cut: set[int] = set()
    if anatomy.docstring is not None:
        cut.update(range(anatomy.docstring.first, anatomy.docstring.last + 1))
    comment = comment_query(anatomy, last_row=_last_row(unit.content, cut), counts=counts)
    if comment is not None:
        cut.update(range(comment[1].first, comment[1].last + 1))
    content = _head(without_rows(unit.content, cut))
    if len("".join(content.split())) < _MIN_CODE_CHARS or content.count("\n") + 1 < _MIN_CODE_ROWS:
        counts["units too short"] += 1
        return None
    if len(content) > MAX_PASSAGE_CHARS:
        counts["units of one long line"] += 1
        return None
    found = (
        docstring_query(unit, anatomy, seed=seed, counts=counts),
        comment[0] if comment else None,
        symbol_query(unit, seed=seed),
        change_query(anatomy, counts),
    )
    draft = Draft(unit, content)
    for query in found:
        if query is None:
            continue
        answer = blank_name(draft.passage, unit.symbol) if query.style == "symbol" else content
        if _words(query.text) in _words(answer):
            # Said twice, in a second comment or in an error message.
            counts[f"{query.style} stands in the code"] += 1
        else:
            draft.queries.append(query)
    return draft


def _words(text: str) -> str:
    return " " + " ".join(re.findall(r"\w+", text.lower())) + " "


def _head(content: str) -> str:
    """The first rows of a text, as many as fit a passage."""
    if len(content) <= MAX_PASSAGE_CHARS:
        return content
    return content[: MAX_PASSAGE_CHARS + 1].rpartition("\n")[0].rstrip() or content


def _last_row(content: str, cut: set[int]) -> int:
    """The last row of a unit that will be in its passage, once some rows are cut out."""
    size, last = 0, -1
    for number, row in enumerate(content.split("\n")):
        size += 0 if number in cut else len(row) + 1
        if size > MAX_PASSAGE_CHARS:
            break
        last = number
    return last
