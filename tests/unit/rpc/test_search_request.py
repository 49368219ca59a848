"""Search requests are checked field by field, and page tokens belong to one query."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from duovec.v1 import search_service_pb2 as pb
from gateway.errors import InvalidInput, SpaceMismatch
from gateway.rpc import paging
from gateway.rpc.paging import digest
from gateway.rpc.search_request import Page, check, decode_page, encode_page, partial_reasons
from gateway.store.rows import SearchResult
from gateway.store.search_plan import Method
from gateway.store.search_words import LEXICAL_WEIGHT

SPACE = "ab" * 32


def request(**fields: Any) -> pb.SearchRequest:
    return pb.SearchRequest(**{"codebase_ids": ["a"], **({} if "input" in fields else {"query": "x"}), **fields})


def page() -> Page:
    vector_V = np.random.default_rng(0).standard_normal(2560).astype(np.float32)
    return Page(
        vector_V=vector_V / np.linalg.norm(vector_V),
        scale=1.25,
        truncated=True,
        missing_encoder="tiny-code",
        pool=130,
        word_weights={"naïve": 7.123456789012345, "x": 0.1},
        score=0.123456789,
        chunk_id=2**40,
    )


def test_defaults_are_filled_in() -> None:
    checked = check(request())
    assert (checked.page_size, checked.min_score, checked.blend) == (10, None, 0.5)
    assert checked.lexical_weight == LEXICAL_WEIGHT
    assert not checked.filter.restricts


def test_only_words_are_searched_by_words_unless_that_is_asked() -> None:
    assert check(pb.SearchRequest(codebase_ids=["a"], code="x = 1")).lexical_weight == 0
    assert check(pb.SearchRequest(codebase_ids=["a"], code="x = 1", lexical_weight=0.5)).lexical_weight == 0.5
    assert check(pb.SearchRequest(codebase_ids=["a"], like_chunk_id=5)).lexical_weight == 0
    assert check(request(lexical_weight=0)).lexical_weight == 0


@pytest.mark.parametrize(
    ("bad", "field", "message"),
    [
        (pb.SearchRequest(query="x"), "codebase_ids", "has 0 items; send 1 to 100"),
        (request(codebase_ids=[f"c{n}" for n in range(101)]), "codebase_ids", "has 101 items"),
        (request(codebase_ids=["a", "a"]), "codebase_ids", "has an item twice"),
        (request(codebase_ids=["A"]), "codebase_id", "is 'A'"),
        (pb.SearchRequest(codebase_ids=["a"]), "input", "is not set; send query, code or like_chunk_id"),
        (request(query=" "), "query", "is empty or of whitespace only"),
        (pb.SearchRequest(codebase_ids=["a"], code=""), "code", "is empty"),
        (pb.SearchRequest(codebase_ids=["a"], like_chunk_id=0), "like_chunk_id", "is 0"),
        (pb.SearchRequest(codebase_ids=["a"], like_chunk_id=-1), "like_chunk_id", "is -1"),
        (
            pb.SearchRequest(codebase_ids=["a"], like_chunk_id=1, lexical_weight=0.5), "lexical_weight", "needs words",
        ),
        (request(page_size=-1), "page_size", "is -1; use 1 to 100"),
        (request(page_size=101), "page_size", "is 101; use 1 to 100"),
        (request(min_score=1.5), "min_score", "is 1.5; use -1 to 1"),
        (request(blend=float("nan")), "blend", "is nan; use 0 to 1"),
        (request(blend=-0.1), "blend", "is -0.1; use 0 to 1"),
        (request(lexical_weight=float("inf")), "lexical_weight", "is inf; use 0 to 1"),
        (request(filter={"kinds": ["functon"]}), "filter.kinds[0]", "is 'functon'; use one of class, function"),
        (request(filter={"languages": ["go", ""]}), "filter.languages[1]", "is empty"),
        (request(filter={"languages": ["x"] * 17}), "filter.languages", "has 17 items, the limit is 16"),
        (request(filter={"kinds": ["class"] * 5}), "filter.kinds", "has 5 items, the limit is 4"),
        (request(filter={"path_globs": ["*" + "a*" * 16]}), "filter.path_globs[0]", "has 17 wildcards"),
    ],
)  # fmt: skip
def test_a_bad_field_is_refused_by_name(bad: pb.SearchRequest, field: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check(bad)
    assert caught.value.field == field
    assert message in caught.value.description


def test_a_filter_of_a_newer_client_is_refused() -> None:
    """Protobuf would pass over it, and hits would be shown that the caller wanted left out."""
    bad = request(filter={"languages": ["go"]})
    bad.filter.MergeFromString(b"\x22\x01x")  # field 4, a string
    with pytest.raises(InvalidInput, match="filter: has field 4, which this service does not know"):
        check(bad)


@pytest.mark.parametrize(
    ("pending_chunk_count", "exhausted", "missing", "reasons"),
    [
        (0, False, "", []),
        (1, False, "", [pb.PARTIAL_REASON_PENDING_CHUNKS]),
        (0, True, "", [pb.PARTIAL_REASON_CANDIDATES_EXHAUSTED]),
        (0, False, "tiny-text", [pb.PARTIAL_REASON_ENCODER_DOWN]),
        (
            1, True, "tiny-text",
            [
                pb.PARTIAL_REASON_PENDING_CHUNKS,
                pb.PARTIAL_REASON_CANDIDATES_EXHAUSTED,
                pb.PARTIAL_REASON_ENCODER_DOWN,
            ],
        ),
    ],
)  # fmt: skip
def test_whatever_may_be_missing_is_said(
    pending_chunk_count: int, exhausted: bool, missing: str, reasons: "list[pb.PartialReason]"
) -> None:
    result = SearchResult(
        hits=(),
        codebase_ids={1: "a"},
        revisions={},
        method=Method.HNSW,
        pool=100,
        word_weights={},
        has_more=False,
        candidates_exhausted=exhausted,
        candidate_count=0,
        searched_chunk_count=5,
        pending_chunk_count=pending_chunk_count,
    )
    assert partial_reasons(result, missing) == reasons


def test_a_page_comes_back_as_it_was_and_the_query_as_it_was_compared() -> None:
    """To the bit of what the database saw: hits before and after the end of a page are compared with the same."""
    before, name = page(), digest(request())
    after = decode_page(encode_page(name, SPACE, before), name, SPACE)
    assert after is not None
    np.testing.assert_array_equal(after.vector_V.astype(np.float16), before.vector_V.astype(np.float16))
    fields = ("scale", "truncated", "missing_encoder", "pool", "word_weights", "score", "chunk_id")
    assert [getattr(after, field) for field in fields] == [getattr(before, field) for field in fields]
    assert decode_page("", name, SPACE) is None


@pytest.mark.parametrize(
    "other",
    [
        request(query="y"),
        request(codebase_ids=["b"]),
        request(codebase_ids=["a", "b"]),
        request(min_score=0),
        request(blend=0.5),
        request(lexical_weight=0),
        request(filter={"kinds": ["class"]}),
        request(allow_degraded=True),
        pb.SearchRequest(codebase_ids=["a"], code="x"),
    ],
)
def test_a_token_of_another_query_is_refused(other: pb.SearchRequest) -> None:
    token = encode_page(digest(request()), SPACE, page())
    with pytest.raises(InvalidInput, match="page_token: belongs to another query"):
        decode_page(token, digest(other), SPACE)


def test_a_token_of_another_space_is_refused() -> None:
    token = encode_page(digest(request()), SPACE, page())
    with pytest.raises(SpaceMismatch, match="begin it again"):
        decode_page(token, digest(request()), "cd" * 32)


def test_the_size_of_a_page_may_change() -> None:
    assert digest(request(page_size=5)) == digest(request(page_size=50, page_token="x"))


@pytest.mark.parametrize(
    "forged",
    [
        replace(page(), pool=1001),
        replace(page(), pool=-1),
        replace(page(), word_weights=[]),
        replace(page(), word_weights={"x": 1}),
        replace(page(), word_weights={"x": "1.0"}),
        replace(page(), word_weights={"x": -0.1}),
        replace(page(), word_weights={"x": float("nan")}),
        replace(page(), word_weights={"x": float("inf")}),
        replace(page(), word_weights={f"x{n}": 1.0 for n in range(65)}),
        replace(page(), score=float("nan")),
        replace(page(), scale=float("inf")),
        replace(page(), scale=5e-324),  # PostgreSQL refuses a product that is too small for its numbers
        replace(page(), scale=1e308),
        replace(page(), chunk_id=2**63),
        replace(page(), chunk_id=0),
        replace(page(), vector_V=np.zeros(2560, dtype=np.float32)),
        replace(page(), vector_V=np.full(2560, np.nan, dtype=np.float32)),
        replace(page(), vector_V=np.ones(384, dtype=np.float32)),
    ],
)
def test_a_forged_token_is_refused(forged: Page) -> None:
    """What could not have come from a first page never reaches the database."""
    name = digest(request())
    with pytest.raises(InvalidInput, match="is not one that this method returned"):
        decode_page(encode_page(name, SPACE, forged), name, SPACE)


@pytest.mark.parametrize("token", ["!", "abc", paging.encode("a"), paging.encode(*"abcdefghij")])
def test_foreign_tokens_are_refused(token: str) -> None:
    with pytest.raises(InvalidInput, match="page_token"):
        decode_page(token, "a" if token == paging.encode(*"abcdefghij") else digest(request()), "b")


def test_weights_that_cannot_be_read_are_refused() -> None:
    name, sound = digest(request()), page()
    parts = paging.decode(encode_page(name, SPACE, sound), 10)
    assert parts is not None
    for weights in ("", "{", "[" * 100_000, "null"):
        with pytest.raises(InvalidInput, match="is not one that this method returned"):
            decode_page(paging.encode(*parts[:7], weights, *parts[8:]), name, SPACE)
