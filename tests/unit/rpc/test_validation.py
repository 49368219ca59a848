"""What callers send is refused by field, limit and value, or taken as it is."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from duovec.v1 import chunk_pb2, vector_pb2
from gateway.embedding.space import InputType
from gateway.errors import InvalidInput
from gateway.rpc import validation

FILE_SHA256 = bytes(range(32))


def valid_chunk(**changes: Any) -> chunk_pb2.Chunk:
    fields: dict[str, Any] = {
        "path": "src/add.py",
        "language": "python",
        "symbol": "Adder.add",
        "kind": "method",
        "start_line": 3,
        "end_line": 4,
        "content": "def add(self, a, b):\n    return a + b",
        "file_sha256": FILE_SHA256,
        "ordinal": 1,
        "file_chunk_count": 2,
    }
    return chunk_pb2.Chunk(**fields | changes)


def refusal(check: Callable[[], object]) -> str:
    with pytest.raises(InvalidInput) as caught:
        check()
    assert str(caught.value) == f"{caught.value.field}: {caught.value.description}"
    return str(caught.value)


@pytest.mark.parametrize("value", ["", " ", "\n\t ", "\u3000"])
def test_a_text_without_content_is_refused(value: str) -> None:
    """Empty and blank texts have no meaning to embed."""
    assert refusal(lambda: validation.text("texts[3]", value)) == (
        "texts[3]: is empty or of whitespace only; send text"
    )


def test_a_text_of_the_limit_is_taken() -> None:
    """A million characters are the most, and still taken."""
    assert validation.text("text", "a" * 1_000_000) == "a" * 1_000_000


def test_a_text_over_the_limit_is_refused() -> None:
    """The message has the length and the limit."""
    assert refusal(lambda: validation.text("text", "a" * 1_000_001)) == (
        "text: has 1000001 characters, the limit is 1000000; split it"
    )


def test_a_text_with_a_null_character_is_refused() -> None:
    """PostgreSQL stores none, so none comes in."""
    assert refusal(lambda: validation.text("text", "a\x00b")) == (
        "text: has a null character, which PostgreSQL and the tokenizers do not take; remove it"
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "item_id: is empty"),
        ("a" * 257, "item_id: has 257 characters, the limit is 256"),
        ("\x00", r"item_id: has the control character '\x00'; remove it"),
        ("a\x1b[2J", r"item_id: has the control character '\x1b'; remove it"),
    ],
)
def test_a_required_label_is_refused_by_its_fault(value: str, message: str) -> None:
    """Missing, too long and null are three messages."""
    assert refusal(lambda: validation.label("item_id", value, limit=256, required=True)) == message


def test_an_optional_label_may_be_empty() -> None:
    """Empty is a value where nothing is required."""
    assert validation.label("symbol", "") == ""


def test_input_types_are_query_and_passage() -> None:
    """The two values of the proto are the two of the space."""
    assert validation.input_type("input_type", vector_pb2.INPUT_TYPE_QUERY) is InputType.QUERY
    assert validation.input_type("input_type", vector_pb2.INPUT_TYPE_PASSAGE) is InputType.PASSAGE


@pytest.mark.parametrize("value", [0, 3, -1])
def test_an_input_type_must_be_chosen(value: int) -> None:
    """Unspecified and unknown are refused: prompts and adapters depend on it."""
    assert refusal(lambda: validation.input_type("input_type", value)) == (
        f"input_type: is {value}; set INPUT_TYPE_QUERY (1) or INPUT_TYPE_PASSAGE (2)"
    )


@pytest.mark.parametrize("value", [0, 1, 2, 3])
def test_known_vector_formats_are_taken(value: int) -> None:
    """Unspecified stands for floats."""
    assert validation.vector_format("vector_format", value) == value


def test_an_unknown_vector_format_is_refused() -> None:
    """The message has the value and the choices."""
    assert refusal(lambda: validation.vector_format("vector_format", 9)) == (
        "vector_format: is 9; "
        "set VECTOR_FORMAT_FLOATS (1), VECTOR_FORMAT_FLOAT32_LE (2) or VECTOR_FORMAT_FLOAT16_LE (3)"
    )


@pytest.mark.parametrize("value", ["a", "0", "my-code", "a--b", "a" * 63])
def test_a_well_formed_codebase_id_is_taken(value: str) -> None:
    """Letters, digits and inner hyphens, 1 to 63 of them."""
    assert validation.codebase_id(value) == value


@pytest.mark.parametrize("value", ["", "-a", "a-", "A", "a_b", "a/b", "..", "a\n", "é", "a" * 64])
def test_a_malformed_codebase_id_is_refused(value: str) -> None:
    """The message has the value and the rule."""
    assert refusal(lambda: validation.codebase_id(value)) == (
        f"codebase_id: is {value!r}; use 1 to 63 of a-z, 0-9 and '-', with a letter or digit first and last"
    )


def test_a_long_codebase_id_is_quoted_in_part() -> None:
    """An answer does not echo a megabyte."""
    assert repr("a" * 80) + ";" in refusal(lambda: validation.codebase_id("a" * 1_000_000))


@pytest.mark.parametrize(("value", "size"), [(0, 100), (1, 1), (1000, 1000)])
def test_a_page_size_of_zero_is_the_default(value: int, size: int) -> None:
    """Zero means the default, all else itself."""
    assert validation.page_size(value, default=100, limit=1000) == size


@pytest.mark.parametrize("value", [-1, 1001])
def test_a_page_size_out_of_range_is_refused(value: int) -> None:
    """The message has the value, the limit and the default."""
    assert refusal(lambda: validation.page_size(value, default=100, limit=1000)) == (
        f"page_size: is {value}; use 1 to 1000, or 0 for 100"
    )


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_digest_of_another_length_is_refused(size: int) -> None:
    """A hex digest has 64 bytes and is no digest."""
    assert refusal(lambda: validation.sha256("file_sha256", bytes(size))) == (
        f"file_sha256: has {size} bytes, a SHA-256 digest has 32"
    )


@pytest.mark.parametrize("value", ["a", "src/add.py", ".github/ci.yml", "a..b/...", "日本/é.py", "with space"])
def test_a_relative_path_is_taken(value: str) -> None:
    """Dots are refused as whole parts only."""
    assert validation.path("path", value) == value


@pytest.mark.parametrize("value", ["/etc/passwd", "../a", "a/../b", "a/..", "./a", "a/./b", "a//b", "a/", "a\\b", ".."])
def test_a_path_that_could_leave_the_codebase_is_refused(value: str) -> None:
    """Absolute paths, backslashes and empty or dotted parts are refused."""
    assert refusal(lambda: validation.path("path", value)) == (
        f"path: is {value!r}; send a relative path with '/', without '.', '..' or empty parts"
    )


def test_an_empty_path_is_refused() -> None:
    """A chunk lies in a file."""
    assert refusal(lambda: validation.path("path", "")) == "path: is empty"


def test_a_path_over_the_limit_is_refused() -> None:
    """The message has the length and the limit."""
    assert refusal(lambda: validation.path("path", "a" * 1025)) == "path: has 1025 characters, the limit is 1024"
    assert refusal(lambda: validation.path("path", "日" * 700)) == "path: has 2100 bytes in UTF-8, the limit is 2048"


def test_a_chunk_becomes_a_row_and_the_text_that_is_embedded() -> None:
    """The row has the chunk's fields, and the digest of the text behind its symbol."""
    row, passage = validation.chunk("chunk", valid_chunk())
    assert passage == "Adder.add\ndef add(self, a, b):\n    return a + b"
    assert row.text_sha256 == hashlib.sha256(passage.encode()).digest()
    assert (row.path, row.language, row.symbol, row.kind) == ("src/add.py", "python", "Adder.add", "method")
    assert (row.start_line, row.end_line, row.ordinal, row.file_chunk_count) == (3, 4, 1, 2)
    assert (row.content, row.file_sha256) == ("def add(self, a, b):\n    return a + b", FILE_SHA256)


def test_a_chunk_without_a_symbol_is_embedded_as_its_content() -> None:
    """No empty line stands in for a missing symbol."""
    _, passage = validation.chunk("chunk", valid_chunk(symbol="", content="text"))
    assert passage == "text"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"content": " "}, "chunk.content: is empty or of whitespace only; send text"),
        ({"symbol": "s" * 1025}, "chunk.symbol: has 1025 characters, the limit is 1024"),
        ({"kind": "macro"}, "chunk.kind: is 'macro'; use one of class, function, method, text"),
        ({"start_line": 0}, "chunk.start_line: is 0 and end_line 4; lines count from 1"),
        ({"end_line": 2}, "chunk.start_line: is 3 and end_line 2; lines count from 1"),
        ({"ordinal": -1}, "chunk.ordinal: is -1 with file_chunk_count 2; counts from 0"),
        ({"ordinal": 2}, "chunk.ordinal: is 2 with file_chunk_count 2; counts from 0"),
        ({"file_chunk_count": 0}, "chunk.ordinal: is 1 with file_chunk_count 0; counts from 0"),
        ({"language": ""}, "chunk.language: is empty"),
        ({"language": "x" * 65}, "chunk.language: has 65 characters, the limit is 64"),
        ({"file_sha256": b"x"}, "chunk.file_sha256: has 1 bytes, a SHA-256 digest has 32"),
        (
            {"path": "a/../b"},
            "chunk.path: is 'a/../b'; send a relative path with '/', without '.', '..' or empty parts",
        ),
    ],
)
def test_a_malformed_chunk_is_refused_by_its_field(changes: dict[str, Any], message: str) -> None:
    """The path of the field is that in the caller's request."""
    assert refusal(lambda: validation.chunk("chunk", valid_chunk(**changes))) == message
