"""Statements of a search, put together from the queries of search.sql."""

from functools import cache

from gateway.store.queries import load_queries
from gateway.store.search_plan import Method

QUERIES = load_queries("search.sql")


@cache
def find_statement(*, by_words: bool) -> str:
    """The statement that finds what is searched, and configures the transaction."""
    words = QUERIES["words_of_text" if by_words else "words_of_none"]
    return QUERIES["find_searched"].format(words=words, settings=QUERIES["settings"])


@cache
def configure_statement() -> str:
    """The statement that configures the rest of the transaction anew."""
    return f"SELECT {QUERIES['settings']}"


@cache
def count_statement() -> str:
    """The statement that counts what passes a filter."""
    return _with_filter("count_matching")


@cache
def rank_statement(method: Method, *, filtered: bool, by_words: bool) -> str:
    """The statement that ranks, with its parameters by name. Planning what is not asked for takes a millisecond."""
    suffix = "_filtered" if filtered else ""
    exact = method is Method.EXACT
    whole = exact and not filtered
    compared, lexical = "compared_all", QUERIES["no_lexical"]
    if by_words:
        lexical = QUERIES["lexical"].format(
            found=QUERIES["found_by_word" if whole else "found_by_chunk"],
            counted=QUERIES["counted_here" if whole else "counted_by_index"],
        )
        if not exact:
            compared = f"compared_pool{suffix}"
    return QUERIES["rank"].format(
        nearest=_with_filter(f"nearest_{method.lower()}{suffix}"), compared=_with_filter(compared), lexical=lexical
    )


def _with_filter(name: str) -> str:
    return QUERIES[name].format(filter=QUERIES["filter"])
