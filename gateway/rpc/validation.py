"""Checks of what callers send; every refusal names the field, the limit and the value."""

import hashlib
import re

from duovec.v1 import chunk_pb2, codebase_service_pb2, vector_pb2
from gateway.embedding.space import InputType, passage_of
from gateway.errors import InvalidInput
from gateway.store.access import Role
from gateway.store.rows import ChunkRow

MAX_TEXTS = 256
MAX_TEXT_CHARS = 1_000_000
MAX_ITEM_ID_CHARS = 256
MAX_PATH_CHARS = 1024
# An entry of PostgreSQL's index over paths holds 2,704 bytes with the rest of its key.
MAX_PATH_BYTES = 2048
MAX_LABEL_CHARS = 1024
MAX_DISPLAY_NAME_CHARS = 256
SHA256_BYTES = 32

_SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_KEY_ID = re.compile(r"[a-z0-9]{12}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_KINDS = frozenset({"function", "method", "class", "text"})
_ROLES: dict[int, Role] = {
    codebase_service_pb2.ROLE_READ: "READ",
    codebase_service_pb2.ROLE_WRITE: "WRITE",
    codebase_service_pb2.ROLE_OWNER: "OWNER",
}
_INPUT_TYPES: dict[int, InputType] = {
    vector_pb2.INPUT_TYPE_QUERY: InputType.QUERY,
    vector_pb2.INPUT_TYPE_PASSAGE: InputType.PASSAGE,
}


def text(field: str, value: str) -> str:
    """A text that can be embedded."""
    if not value or value.isspace():
        raise InvalidInput(field, "is empty or of whitespace only; send text")
    if len(value) > MAX_TEXT_CHARS:
        raise InvalidInput(field, f"has {len(value)} characters, the limit is {MAX_TEXT_CHARS}; split it")
    if "\x00" in value:
        raise InvalidInput(field, "has a null character, which PostgreSQL and the tokenizers do not take; remove it")
    return value


def label(field: str, value: str, *, limit: int = MAX_LABEL_CHARS, required: bool = False) -> str:
    """A short string without control characters, which would steer the terminal that shows it."""
    if required and not value:
        raise InvalidInput(field, "is empty")
    if len(value) > limit:
        raise InvalidInput(field, f"has {len(value)} characters, the limit is {limit}")
    if control := _CONTROL.search(value):
        raise InvalidInput(field, f"has the control character {control.group()!r}; remove it")
    return value


def input_type(field: str, value: int) -> InputType:
    """Query or passage."""
    known = _INPUT_TYPES.get(value)
    if known is None:
        raise InvalidInput(field, f"is {value}; set INPUT_TYPE_QUERY (1) or INPUT_TYPE_PASSAGE (2)")
    return known


def vector_format(field: str, value: int) -> int:
    """A known form of vectors."""
    if value not in vector_pb2.VectorFormat.values():
        raise InvalidInput(
            field,
            f"is {value}; set VECTOR_FORMAT_FLOATS (1), VECTOR_FORMAT_FLOAT32_LE (2) or VECTOR_FORMAT_FLOAT16_LE (3)",
        )
    return value


def codebase_id(value: str) -> str:
    """An id that could be a codebase's."""
    return slug("codebase_id", value)


def slug(field: str, value: str) -> str:
    """An id that people choose: of a codebase, or of a principal."""
    if not _SLUG.fullmatch(value):
        raise InvalidInput(
            field, f"is {value[:80]!r}; use 1 to 63 of a-z, 0-9 and '-', with a letter or digit first and last"
        )
    return value


def key_id(value: str) -> str:
    """The public part of an API key; whoever sends a whole key by mistake gets no part of it back."""
    if not _KEY_ID.fullmatch(value):
        raise InvalidInput("key_id", "is not 12 of a-z and 0-9, the part of the key after `duovec_`")
    return value


def role(field: str, value: int) -> Role:
    """A role on a codebase."""
    known = _ROLES.get(value)
    if known is None:
        raise InvalidInput(field, f"is {value}; set ROLE_READ (1), ROLE_WRITE (2) or ROLE_OWNER (3)")
    return known


def page_size(value: int, *, default: int, limit: int) -> int:
    """A page size, 0 meaning the default."""
    if value < 0 or value > limit:
        raise InvalidInput("page_size", f"is {value}; use 1 to {limit}, or 0 for {default}")
    return value or default


def sha256(field: str, value: bytes) -> bytes:
    """A SHA-256 digest."""
    if len(value) != SHA256_BYTES:
        raise InvalidInput(field, f"has {len(value)} bytes, a SHA-256 digest has {SHA256_BYTES}")
    return value


def path(field: str, value: str) -> str:
    """A relative path that stays inside the codebase."""
    label(field, value, limit=MAX_PATH_CHARS, required=True)
    size_bytes = len(value.encode())
    if size_bytes > MAX_PATH_BYTES:
        raise InvalidInput(field, f"has {size_bytes} bytes in UTF-8, the limit is {MAX_PATH_BYTES}")
    if value.startswith("/") or "\\" in value or any(part in {"", ".", ".."} for part in value.split("/")):
        raise InvalidInput(field, f"is {value[:80]!r}; send a relative path with '/', without '.', '..' or empty parts")
    return value


def kind(field: str, value: str) -> str:
    """A known kind of chunk."""
    if value not in _KINDS:
        raise InvalidInput(field, f"is {value[:80]!r}; use one of {', '.join(sorted(_KINDS))}")
    return value


def chunk(field: str, value: chunk_pb2.Chunk) -> tuple[ChunkRow, str]:
    """A chunk as a row, and the text that is embedded for it."""
    content = text(f"{field}.content", value.content)
    symbol = label(f"{field}.symbol", value.symbol)
    kind(f"{field}.kind", value.kind)
    if not 1 <= value.start_line <= value.end_line:
        raise InvalidInput(
            f"{field}.start_line", f"is {value.start_line} and end_line {value.end_line}; lines count from 1"
        )
    if not 0 <= value.ordinal < value.file_chunk_count:
        raise InvalidInput(
            f"{field}.ordinal", f"is {value.ordinal} with file_chunk_count {value.file_chunk_count}; counts from 0"
        )
    passage = passage_of(symbol, content)
    row = ChunkRow(
        path=path(f"{field}.path", value.path),
        language=label(f"{field}.language", value.language, limit=64, required=True),
        symbol=symbol,
        kind=value.kind,
        start_line=value.start_line,
        end_line=value.end_line,
        content=content,
        text_sha256=hashlib.sha256(passage.encode()).digest(),
        file_sha256=sha256(f"{field}.file_sha256", value.file_sha256),
        ordinal=value.ordinal,
        file_chunk_count=value.file_chunk_count,
    )
    return row, passage
