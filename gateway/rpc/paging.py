"""Page tokens: which list it is, and the key of the last row; opaque to callers."""

import base64
import hashlib
import json
import re
from typing import Any

from gateway.errors import InvalidInput

# JSON can spell a null character and half a surrogate pair; PostgreSQL takes neither.
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")


def digest(request: Any) -> str:
    """What a page token belongs to: the method's message, and all that it asks for but the page."""
    identity = type(request)()
    identity.CopyFrom(request)
    identity.ClearField("page_token")
    identity.ClearField("page_size")
    name = request.DESCRIPTOR.full_name.encode()
    return hashlib.sha256(name + b"\0" + identity.SerializeToString(deterministic=True)).hexdigest()[:32]


def encode_for(request: Any, *key: str) -> str:
    """A token for the page after the row of this key, in the list that a request asks for."""
    return encode(digest(request), *key)


def decode_for(request: Any, part_count: int) -> list[str] | None:
    """The key inside the token of a request; None for the empty token of a first page.

    Raises:
        InvalidInput: The token is not one that `encode_for` made, or belongs to another list, whose next page would
            begin in the middle of this one.
    """
    key = decode(request.page_token, part_count + 1)
    if key is not None and key.pop(0) != digest(request):
        raise other_query()
    return key


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


def other_query() -> InvalidInput:
    """The error for a token of another request."""
    return InvalidInput(
        "page_token",
        "belongs to another query; send the request as it was for the page before, or leave the token empty",
    )


def foreign_token() -> InvalidInput:
    """The error for a token that this method never gave."""
    return InvalidInput("page_token", "is not one that this method returned; leave it empty for the first page")
