"""Which words of a query count, and which are looked up."""

from gateway.store.search_words import MAX_WORDS, NO_WORDS, choose_words


def test_words_that_say_nothing_are_left_out() -> None:
    chosen = choose_words([("how", None), ("is", None), ("json", None), ("the", None)])
    assert (chosen.words, chosen.chunk_counts, chosen.any_word) == (("json",), (None,), "'json'")


def test_a_query_of_such_words_alone_keeps_them() -> None:
    """`for` and `while` may be what is looked for."""
    assert set(choose_words([("for", None), ("while", None)]).words) == {"for", "while"}


def test_common_words_count_but_are_not_looked_up() -> None:
    """Of a word in 80,000 chunks every one would be read."""
    chosen = choose_words([("self", 80_000), ("parse", 600), ("list", 500), ("qsl", None)])
    assert chosen.words == ("qsl", "list", "parse", "self")
    assert chosen.chunk_counts == (None, 500, 600, 80_000)
    assert chosen.any_word == "'qsl' | 'list'"


def test_of_many_words_the_rare_ones_are_kept() -> None:
    chosen = choose_words([(f"w{n}", 1_000 + n) for n in range(100)] + [("rare", None)])
    assert len(chosen.words) == MAX_WORDS
    assert chosen.words[0] == "rare"


def test_of_many_words_that_nobody_counted_the_long_ones_are_kept() -> None:
    """In small codebases none is; by the alphabet a query's only telling word might be left out."""
    chosen = choose_words([*((f"a{n}", None) for n in range(100)), ("verify_signature", None)])
    assert len(chosen.words) == MAX_WORDS
    assert chosen.words[0] == "verify_signature"


def test_on_later_pages_the_words_of_the_first_count() -> None:
    found = [("self", 80_000), ("parse", None), ("new", None)]
    chosen = choose_words(found, {"self": 0.5, "parse": 3.0})
    assert (chosen.words, chosen.weights) == (("parse", "self"), (3.0, 0.5))
    assert choose_words(found, {}) == NO_WORDS
    assert choose_words(found).weights == (None, None, None)


def test_nothing_to_look_up_is_no_query() -> None:
    assert choose_words([]) == NO_WORDS
    assert choose_words([("self", 10**6)]).any_word is None


def test_quotes_cannot_leave_their_word() -> None:
    """No word has any, since code is split at them; a tsquery must hold them nevertheless."""
    assert choose_words([("a'b\\", None)]).any_word == "'a''b\\\\'"
