"""Pairs of the same symbol: in two versions of a package, or in two languages."""

import re
from collections import defaultdict
from collections.abc import Iterable

from training.data.blanking import words_of
from training.data.duplicates import shingles, similarity
from training.data.queries import Query
from training.data.unit import Unit

_LEAST_SIMILARITY, _MOST_SIMILARITY = 0.2, 0.9
_LEAST_WORDS = 3
_MAX_QUERY_CHARS = 1000


def same_symbol_queries(units: Iterable[Unit]) -> list[tuple[str, Query]]:
    """Find units of one package that are the same symbol, and make one the query for the other.

    Two versions stand in files of the same name and folder, one of them vendored, and are alike but not nearly equal.
    In another language it is the unit whose name has the same words, three at least, and only one such unit a language.

    Args:
        units: All of one package.

    Returns:
        (key of the unit that is found, query) pairs.
    """
    by_place: dict[tuple[str, ...], list[Unit]] = defaultdict(list)
    by_words: dict[tuple[str, ...], list[Unit]] = defaultdict(list)
    for unit in units:
        if unit.is_test or unit.name.startswith("__"):
            continue
        by_place[(*unit.path.split("/")[-2:], unit.symbol)].append(unit)
        if len(words := tuple(words_of(unit.name))) >= _LEAST_WORDS:
            by_words[words].append(unit)
    found = []
    for versions in by_place.values():
        origins = {unit.path.partition("/")[0] for unit in versions}
        if len(versions) == 2 and len(origins) == 2:
            new, old = versions
            if _LEAST_SIMILARITY <= similarity(shingles(new.content), shingles(old.content)) < _MOST_SIMILARITY:
                found.append((new.key, _query(old)))
    for namesakes in by_words.values():
        languages = {unit.language for unit in namesakes}
        if len(namesakes) == 2 and len(languages) == 2 and languages != {"c", "cpp"}:
            one, other = namesakes
            found += [(one.key, _query(other)), (other.key, _query(one))]
    return found


def _query(unit: Unit) -> Query:
    text = unit.content[:_MAX_QUERY_CHARS]
    if len(unit.content) > _MAX_QUERY_CHARS:
        text = text.rpartition("\n")[0] or text
    return Query(re.sub(r"^\n+|\s+$", "", text), "code", unit.rows, scope=unit.scope)
