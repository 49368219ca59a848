"""The form of API keys, and what of them may be seen."""

import hashlib
import re

import pytest

from gateway.store.api_key import ApiKey


def test_a_new_key_has_256_random_bits_and_a_public_id() -> None:
    """No two of a thousand share an id or a secret, and every bit of the secret varies."""
    keys = [ApiKey.generate() for _ in range(1000)]
    assert len({key.key_id for key in keys}) == len({key.secret for key in keys}) == 1000
    secrets = [int.from_bytes(key.secret) for key in keys]
    for bit in range(256):
        assert 350 < sum(secret >> bit & 1 for secret in secrets) < 650
    assert all(re.fullmatch(r"duovec_[a-z0-9]{12}_[0-9a-f]{64}", key.text) for key in keys)


def test_a_key_is_read_back_from_its_text() -> None:
    key = ApiKey.generate()
    assert ApiKey.parse(key.text) == key


def test_the_secret_stands_in_no_repr_and_its_hash_is_sha_256() -> None:
    """Keys end up in tracebacks, hashes in backups."""
    key = ApiKey("abcdefghijkl", bytes(range(32)))
    assert repr(key) == "ApiKey(key_id='abcdefghijkl')"
    assert key.secret_sha256 == hashlib.sha256(bytes(range(32))).digest()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "duovec_abcdefghijkl",
        f"duovec_abcdefghijkl_{'0' * 63}",
        f"duovec_abcdefghijkl_{'0' * 65}",
        f"duovec_abcdefghijk_{'0' * 64}",
        f"duovec_abcdefghijkL_{'0' * 64}",
        f"duovec_abcdefghijkl_{'A' * 64}",
        f" duovec_abcdefghijkl_{'0' * 64}",
        f"duovec_abcdefghijkl_{'0' * 64}\n",
        f"other_abcdefghijkl_{'0' * 64}",
        f"duovec_abcdefghijkl_{chr(0x660) * 64}",
    ],
)
def test_other_texts_are_no_keys(text: str) -> None:
    assert ApiKey.parse(text) is None
