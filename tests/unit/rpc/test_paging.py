"""Page tokens come back as they were given, and foreign ones are refused politely."""

import base64
import json
import random
from typing import Any

import pytest

from duovec.v1.audit_service_pb2 import ListAuditEventsRequest
from duovec.v1.codebase_service_pb2 import ListGrantsRequest
from duovec.v1.index_service_pb2 import ListFilesRequest
from duovec.v1.quality_service_pb2 import ListQualityRequest
from gateway.errors import InvalidInput
from gateway.rpc import paging

REFUSAL = "page_token: is not one that this method returned; leave it empty for the first page"


def token_of(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize("key", [("a",), ("src/main.py", "3"), ("",), ("naïve/日本.py", '"\\', "🙂")])
def test_a_token_gives_back_its_key(key: tuple[str, ...]) -> None:
    """The key survives the way out and back, whatever characters it has."""
    assert paging.decode(paging.encode(*key), len(key)) == list(key)


def test_the_empty_token_is_the_first_page() -> None:
    """No token has no key."""
    assert paging.decode("", 1) is None


@pytest.mark.parametrize(
    "token",
    [
        "!",
        "abc",
        "日本",
        token_of("nothing"),
        token_of('"text"'),
        token_of("{}"),
        token_of("[]"),
        token_of("[1]"),
        token_of('["a", "b"]'),
        token_of('["a\\u0000b"]'),
        token_of('["\\ud800"]'),
        token_of("[" * 100_000),
        token_of("9" * 10_000),
        paging.encode("a") + "\n",
        json.dumps(["a"]),
        base64.urlsafe_b64encode(b'["\xff"]').decode(),
    ],
)
def test_a_foreign_token_is_refused(token: str) -> None:
    """What `encode` never made is the caller's mistake, and the message says what to send."""
    with pytest.raises(InvalidInput) as caught:
        paging.decode(token, 1)
    assert str(caught.value) == REFUSAL
    assert caught.value.field == "page_token"


def test_a_token_of_another_method_is_refused() -> None:
    """A key of two parts is none of one part."""
    with pytest.raises(InvalidInput, match="is not one that this method returned"):
        paging.decode(paging.encode("a", "b"), 1)


FILES = ListFilesRequest(codebase_id="a", page_size=2)


def test_a_list_is_gone_on_with_by_the_request_that_began_it() -> None:
    """With another size of page, too."""
    token = paging.encode_for(FILES, "src/main.py", "12")
    assert paging.decode_for(ListFilesRequest(codebase_id="a", page_token=token), 2) == ["src/main.py", "12"]
    assert paging.decode_for(FILES, 2) is None


@pytest.mark.parametrize(
    ("begun", "other"),
    [
        (FILES, ListFilesRequest(codebase_id="b")),
        (ListGrantsRequest(codebase_id="a"), ListGrantsRequest(codebase_id="b")),
        (ListGrantsRequest(codebase_id="a"), ListQualityRequest(codebase_id="a")),
        (ListQualityRequest(week_count=4), ListQualityRequest(week_count=5)),
        (ListAuditEventsRequest(), ListAuditEventsRequest(action="GRANT_SET")),
    ],
)
def test_a_token_of_another_list_is_refused(begun: Any, other: Any) -> None:
    """Its page would begin somewhere in this one, and what stands before would be missing without a word."""
    other = type(other).FromString(other.SerializeToString())
    other.page_token = paging.encode_for(begun, "m")
    with pytest.raises(InvalidInput, match="page_token: belongs to another query"):
        paging.decode_for(other, 1)


def test_random_tokens_are_refused() -> None:
    """Whatever the bytes, plain or in base64, InvalidInput and nothing else is raised."""
    source = random.Random(20)
    for _ in range(5_000):
        raw = source.randbytes(source.randrange(1, 40))
        token = raw.decode("latin-1") if source.random() < 0.5 else base64.urlsafe_b64encode(raw).decode()
        with pytest.raises(InvalidInput):
            paging.decode(token, 1)


def test_mutated_tokens_are_refused_or_read_as_keys() -> None:
    """A token with one byte changed is refused, or is another key that a database can be asked for."""
    source = random.Random(21)
    original = bytearray(paging.encode("src/gateway/main.py", "12").encode())
    for _ in range(5_000):
        mutated = original.copy()
        mutated[source.randrange(len(mutated))] = source.randrange(128)
        try:
            key = paging.decode(mutated.decode(), 2)
        except InvalidInput as exc:
            assert str(exc) == REFUSAL  # noqa: PT017 - either outcome is right, another exception is not
        else:
            assert key is not None
            assert len(key) == 2
            assert all("\x00" not in part and part.encode().decode() == part for part in key)
