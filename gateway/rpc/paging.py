"""Page tokens: the key of the last row, opaque to callers."""

import base64
import json
import re

from gateway.errors import InvalidInput

# JSON can spell a null character and half a surrogate pair; PostgreSQL takes neither.
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")


def encode(*key: str) -> str:
    """A token for the page after the row of this key."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def decode(token: str, part_count: int) -> list[str] | None:
    """The key inside a token; None for the empty token of a first page.

    Raises:
        InvalidInput: The token is not one that `encode` made of this many parts.
    """
    if not token:
        return None
    try:
        key = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (ValueError, RecursionError) as exc:  # deeply nested JSON exhausts the parser's stack
        raise foreign_token() from exc
    if not isinstance(key, list) or len(key) != part_count or not all(isinstance(part, str) for part in key):
        raise foreign_token()
    if any(_NOT_STORABLE.search(part) for part in key):
        raise foreign_token()
    return key


def foreign_token() -> InvalidInput:
    """The error for a token that this method never gave."""
    return InvalidInput("page_token", "is not one that this method returned; leave it empty for the first page")
