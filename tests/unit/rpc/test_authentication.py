"""Which key a call carries."""

import pytest

from gateway.errors import ApiKeyMissing, Unauthenticated
from gateway.rpc.authentication import api_key_of
from gateway.store.api_key import ApiKey

KEY = ApiKey.generate()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_bearer_token_is_read_whatever_the_case_of_its_scheme(scheme: str) -> None:
    """RFC 9110: the name of a scheme has no case."""
    assert api_key_of((("user-agent", "x"), ("authorization", f"{scheme} {KEY.text}"))) == KEY


def test_a_call_without_authorization_has_no_key() -> None:
    """The error says what to send."""
    with pytest.raises(ApiKeyMissing, match="`authorization: Bearer duovec_<id>_<secret>`"):
        api_key_of((("user-agent", "x"),))


@pytest.mark.parametrize(
    "values",
    [
        [KEY.text],
        [f"Basic {KEY.text}"],
        ["Bearer"],
        ["Bearer "],
        [f"Bearer {KEY.text.upper()}"],
        [f"Bearer {KEY.text}0"],
        [f"Bearer {KEY.text[:-1]}"],
        [f"Bearer {KEY.text}\n"[:-2] + "\n"],
        [f"Bearer {KEY.text}", f"Bearer {KEY.text}"],
        [f"Bearer {KEY.text}".encode()],
    ],
)
def test_whatever_else_stands_there_is_no_key(values: list[str | bytes]) -> None:
    """And the message repeats nothing of it: half a secret is a secret."""
    with pytest.raises(Unauthenticated) as refused:
        api_key_of([("authorization", value) for value in values])
    assert KEY.secret.hex()[:8] not in str(refused.value)
    assert not isinstance(refused.value, ApiKeyMissing)
