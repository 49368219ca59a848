"""Follows calls to the units that they call: callers, and tests."""

import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from training.data.anatomy import Anatomy, Call
from training.data.blanking import words_of
from training.data.queries import Query
from training.data.unit import Unit, rank

_AROUND_ROWS = 3
_MIN_CALLER_CHARS, _MAX_CALLER_CHARS = 80, 800
_TEST_WORDS = frozenset({"test", "tests", "should", "case", "basic", "simple", "works", "ok"})


class Definitions:
    """The units of one package by name, without its tests."""

    def __init__(self, units: Iterable[Unit]) -> None:
        """Index the units of a package.

        Args:
            units: All of one package and one language.
        """
        self._by_name: dict[str, list[Unit]] = defaultdict(list)
        for unit in units:
            if not unit.is_test:
                self._by_name[unit.name].append(unit)
                if unit.name == "__init__":
                    self._by_name[unit.symbol.removesuffix(".__init__").rpartition(".")[2]].append(unit)

    def called(self, call: Call, caller: Unit) -> Unit | None:
        """The unit that a call means, where only one can be meant.

        A bare call means a function or class; `self.name()` a method of the caller's class; any other call with a dot
        is followed only when the name has several words: `get` of anything is not the package's only `get`.
        """
        found = self._by_name.get(call.name, [])
        if call.receiver in {"self", "this", "cls"}:
            own = f"{caller.symbol.rpartition('.')[0]}.{call.name}"
            found = [unit for unit in found if unit.symbol == own and unit.path == caller.path]
        elif call.receiver == "":
            found = [unit for unit in found if unit.kind != "method" or unit.name == "__init__"]
            # A class is found by its own chunk and by its constructor: the constructor says what a call does.
            constructors = [unit for unit in found if unit.name == "__init__"]
            found = constructors or found
        elif len(words_of(call.name)) < 2:
            return None
        return found[0] if len(found) == 1 and found[0].key != caller.key else None


def caller_queries(
    units: Sequence[Unit], anatomies: Mapping[str, Anatomy], definitions: Definitions, *, seed: int
) -> dict[str, Query]:
    """For each called unit the rows around one of its calls, chosen by a hash.

    Args:
        units: Of one package and one language.
        anatomies: Of these units, by key.
        definitions: Of the package.
        seed: Chooses among the callers.

    Returns:
        The query by the key of the called unit.
    """
    best: dict[str, tuple[float, Query]] = {}
    for unit in units:
        if unit.is_test:
            continue
        for call in anatomies[unit.key].calls:
            called = definitions.called(call, unit)
            if called is None:
                continue
            order = rank(seed, "caller", unit.key, called.key)
            if called.key in best and best[called.key][0] <= order:
                continue
            if (text := _around(unit.content, call.row)) is not None:
                best[called.key] = (order, Query(text, "code", unit.rows, scope=unit.scope))
    return {key: query for key, (_, query) in best.items()}


def queries_of_tests(
    tests: Iterable[Unit], anatomies: Mapping[str, Anatomy], definitions: Definitions
) -> list[tuple[str, Query]]:
    """The words of a test's name, for the unit that it tests.

    What is tested is what the test calls: the unit of the package whose name shares most words with the test's. Where
    two share as many, or none shares any, it is not known.

    Returns:
        (key of the tested unit, query) pairs.
    """
    found = []
    for test in tests:
        words = words_of_test(test)
        if len(words) < 3:
            continue
        called = {}
        for call in anatomies[test.key].calls:
            if (unit := definitions.called(call, test)) is not None:
                called[unit.key] = unit
        shared = sorted(((_shared(unit, words), unit.key) for unit in called.values()), reverse=True)
        if not shared or shared[0][0] <= (shared[1][0] if len(shared) > 1 else 0):
            continue
        tested = shared[0][1]
        # The bare name of what is tested would be a query of another style.
        if not set(words_of(called[tested].symbol)).issuperset(words):
            found.append((tested, Query(" ".join(words), "test_name", test.rows, scope=test.scope)))
    return found


def words_of_test(test: Unit) -> list[str]:
    """The words that say what a test tests; none for a unit that is no test."""
    match = re.fullmatch(r"[tT]est_?(?P<what>\w+)", test.name)
    if match is None or test.kind not in {"function", "method"}:
        return []
    words = words_of(match["what"])
    return [] if sum(word.isdigit() for word in words) > 1 or _TEST_WORDS.issuperset(words) else words


def _shared(unit: Unit, words: Sequence[str]) -> int:
    is_named = unit.name.strip("_").replace("_", "").lower() in "".join(words)
    return len(set(words_of(unit.symbol)) & set(words)) + is_named


def _around(content: str, row: int) -> str | None:
    rows = content.split("\n")
    # The caller's header stays out: its name and docstring would be a query of another style.
    first, last = max(1, row - _AROUND_ROWS), min(len(rows), row + _AROUND_ROWS + 1)
    while first < row and not re.search(r"\w", rows[first]):
        first += 1
    while last > row + 1 and not re.search(r"\w", rows[last - 1]):
        last -= 1
    text = textwrap.dedent("\n".join(rows[first:last])).strip()
    fits = _MIN_CALLER_CHARS <= len(text) <= _MAX_CALLER_CHARS and row >= first
    return text if fits and '"""' not in text and text.count("\n") >= 2 else None
