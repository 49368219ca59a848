"""API keys: `duovec_<id>_<secret>`, of which the database holds the id and a SHA-256 of the secret."""

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from typing import Self

_PREFIX = "duovec"
_ID_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_ID_LENGTH = 12
_SECRET_BYTES = 32
_FORM = re.compile(rf"{_PREFIX}_(?P<key_id>[a-z0-9]{{{_ID_LENGTH}}})_(?P<secret>[0-9a-f]{{{2 * _SECRET_BYTES}}})")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its holder has it.

    Attributes:
        key_id: Public: listed, logged, and named to revoke the key.
        secret: 256 random bits. No `repr` shows them.
    """

    key_id: str
    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """Make a new key from the system's randomness."""
        key_id = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))
        return cls(key_id, secrets.token_bytes(_SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a key; None where the text is not of the form of one."""
        match = _FORM.fullmatch(text)
        return None if match is None else cls(match["key_id"], bytes.fromhex(match["secret"]))

    @property
    def text(self) -> str:
        """What its holder sends, and keeps secret."""
        return f"{_PREFIX}_{self.key_id}_{self.secret.hex()}"

    @property
    def secret_sha256(self) -> bytes:
        """What is stored.

        A plain hash is enough: nobody can try 2²⁵⁶ secrets, fast or slow, as they can try the passwords of people.
        """
        return hashlib.sha256(self.secret).digest()
