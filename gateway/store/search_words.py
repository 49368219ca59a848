"""Which words of a query are looked up, and what a match counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEXICAL_WEIGHT = 0.5
"""Share of the words in a score, by default. Measured, see DECISIONS.md."""

PART_WEIGHTS = (0.4, 0.0, 0.2, 1.0)
"""What a word counts in the content, (nothing), the path and the symbol, in the order of ts_rank. Measured too."""

MAX_WORDS = 64

# How many chunks are looked up by words where an index chooses the candidates: rare words first, until they stand in
# this many. The other words count in the chunks that are candidates anyway; looking them up would score thousands of
# chunks for what weighs little.
LOOKUP_BUDGET = 1_000

# Words below this are not written down: looking them up is cheap.
LEAST_COUNT = 50

# English that questions are made of and that says nothing about code. In code the same words are keywords, or common.
_STOP_WORDS = """
    a an and any are as at be been being but by can could did do does for from had has have he her his how i if in into
    is it its may me might must my no not of on or our over she should so some such than that the their them then there
    these they this those through to too under up us was we were what when where which while who whom whose why will
    with would you your
"""
_SAYS_NOTHING = frozenset(_STOP_WORDS.split())


@dataclass(frozen=True, slots=True)
class WordQuery:
    """The words of a query.

    Attributes:
        words: At most `MAX_WORDS`.
        chunk_counts: In how many chunks each stands, where that is known.
        weights: What each weighed on the first page; None each on the first page itself.
        any_word: A tsquery of those by which chunks are looked up; None for none.
    """

    words: tuple[str, ...]
    chunk_counts: tuple[int | None, ...]
    weights: tuple[float | None, ...]
    any_word: str | None


NO_WORDS = WordQuery((), (), (), None)


def choose_words(
    found: Sequence[tuple[str, int | None]], first_weights: Mapping[str, float] | None = None
) -> WordQuery:
    """Choose the words that count, and those by which chunks are looked up.

    Args:
        found: The query's words, with the number of chunks that have them where that is known, which is so for the
            common words of large codebases.
        first_weights: What the words of the query's first page weighed there: they count, and no others do. What is
            stored between two pages would change the weights, and with them the order that the pages cut.
    """
    if first_weights is not None:
        telling = [row for row in found if row[0] in first_weights]
    else:
        telling = [row for row in found if row[0] not in _SAYS_NOTHING] or list(found)
    # Rare ones first: they say most, and cost least. Of those that nobody counted long ones are the rarest.
    telling.sort(key=lambda row: (row[1] or 0, -len(row[0]), row[0]))
    telling = telling[:MAX_WORDS]
    looked_up, chunk_count = [], 0
    for word, count in telling:
        chunk_count += LEAST_COUNT if count is None else count
        if chunk_count > LOOKUP_BUDGET:
            break
        looked_up.append(word)
    return WordQuery(
        words=tuple(word for word, _ in telling),
        chunk_counts=tuple(count for _, count in telling),
        weights=tuple(None if first_weights is None else first_weights[word] for word, _ in telling),
        any_word=" | ".join(f"'{_escaped(word)}'" for word in looked_up) or None,
    )


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace("'", "''")
