"""Cuts source files into chunks: functions, methods, classes, and the text between them."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tree_sitter import Point, Tree

from gateway.client.definitions import Definition, Outline, outline, walk
from gateway.client.languages import Grammar, grammar_of, parser_for, plain_language
from gateway.client.splitting import Rows, paragraph_ranks, split_rows, statement_ranks

DEFAULT_MAX_CHARS = 1500

# Text between definitions that is shorter than this says nothing: `else:`, `#endif`, a lone name.
_MIN_TEXT_CHARS = 10
# Minified files: definitions that share a row with others own none, and to parse a megabyte of them takes up to 11 s.
_MINIFIED_BYTES, _MINIFIED_ROW_BYTES = 100_000, 1000
# Tables of numbers, or brackets by the hundred thousand: no definitions, and half a million rows to walk over.
_TABLE_ROW_BYTES = 12
_PARSE_MOST_S = 3.0
"""CPU time. A megabyte of code takes 0.2 s; one that was made to have an error everywhere took 7."""
_PIECE_BYTES = 4096  # what the text of each name is cut from, too
_SCAFFOLD = re.compile(
    r"\s*#\s*(if|ifdef|ifndef|elif|else|endif|pragma|undef)\b"  # preprocessor conditions
    r"|\s*#\s*define\s+\w+\s*$"  # include guards
    r"|[\s})\];,]+(//.*|/\*.*)?$"  # closing brackets, and what they close
)


@dataclass(frozen=True, slots=True)
class SourceChunk:
    """A piece of a file.

    Attributes:
        path: Path of the file, as it was given.
        language: In lower case; "text" where unknown.
        symbol: Dotted path of the enclosing symbols; may be empty.
        kind: "function", "method", "class" or "text".
        start_line: First line, counted from 1.
        end_line: Last line, inclusive.
        content: These lines, without the last line end. Line ends are `\\n`, whatever the file has, and a byte order
            mark is dropped. Of a line that alone is over the budget it is a part.
    """

    path: str
    language: str
    symbol: str
    kind: str
    start_line: int
    end_line: int
    content: str


@dataclass(frozen=True, slots=True)
class _Range:
    first: int
    last: int
    kind: str
    symbol: str


def chunk_file(path: str, source: bytes, *, max_chars: int = DEFAULT_MAX_CHARS) -> list[SourceChunk]:
    """Cut a file into chunks.

    Functions and methods are a chunk each, with their decorators and the comments directly above. A class is a chunk of
    what is between its methods; methods of one line stay in it. What is longer than the budget is cut between
    statements. Imports, comments and blank lines between definitions make no chunk. Files of other languages are cut
    between paragraphs, and so are large ones that a program has written into a few long lines or very many short ones,
    and any that takes seconds to parse. A syntax error costs the symbols around it, not the text.

    Args:
        path: Path of the file; its suffix names the language.
        source: The file's bytes, UTF-8.
        max_chars: Longest chunk, in characters; at least 100.

    Returns:
        Chunks in the order of their lines, none empty or of space only.

    Raises:
        ValueError: `max_chars` is below 100.
        UnicodeDecodeError: `source` is not UTF-8 (a ValueError, too).
    """
    if max_chars < 100:
        raise ValueError(f"max_chars must be at least 100, not {max_chars}")
    text = source.decode("utf-8-sig").replace("\r\n", "\n")
    rows = Rows(text)
    grammar = grammar_of(path, text)
    data = text.encode()
    row_bytes = len(data) / len(rows.texts)
    is_code = len(data) <= _MINIFIED_BYTES or _TABLE_ROW_BYTES <= row_bytes <= _MINIFIED_ROW_BYTES
    tree = _parsed(grammar, data) if grammar is not None and is_code else None
    if grammar is None or tree is None:
        language = plain_language(path) if grammar is None else grammar.name
        ranks, ranges = paragraph_ranks(rows), [_Range(0, len(rows.texts) - 1, "text", "")]
    else:
        found = outline(tree.root_node, data.split(b"\n"), grammar, max_chars=max_chars)
        language, ranges = grammar.name, list(_code_ranges(rows, found))
        too_long = any(rows.char_count(part.first, part.last) > max_chars for part in ranges)
        ranks = statement_ranks(tree.root_node) if too_long else {}
    return [
        SourceChunk(path, language, part.symbol, part.kind, first + 1, last + 1, content)
        for part in sorted(ranges, key=lambda part: part.first)
        for first, last in split_rows(rows, *_trim(rows, part.first, part.last), ranks, max_chars=max_chars)
        for content in _pieces(rows.join(first, last), max_chars)
    ]


def _parsed(grammar: Grammar, data: bytes) -> Tree | None:
    """The syntax tree, or None where it takes too long to make one."""
    ends_at = time.thread_time() + _PARSE_MOST_S

    def read(offset: int, point: Point | None) -> bytes:
        return data[offset : offset + _PIECE_BYTES]

    def is_late(offset: int, has_error: bool) -> bool:
        return time.thread_time() > ends_at

    try:
        return parser_for(grammar).parse(read, progress_callback=is_late)
    except ValueError:  # what py-tree-sitter says of a parse that was ended
        return None


def _code_ranges(rows: Rows, found: Outline) -> Iterator[_Range]:
    """Cover a file: a range for every definition, and one for what is between its members."""
    for definition in walk(found.root):
        first = definition.first_row
        for member in definition.members:
            if first < member.first_row:
                yield from _gap(rows, found, definition, first, member.first_row - 1)
            first = member.last_row + 1
        if first <= definition.last_row:
            yield from _gap(rows, found, definition, first, definition.last_row)


def _gap(rows: Rows, found: Outline, definition: Definition, first: int, last: int) -> Iterator[_Range]:
    """Make ranges of rows that belong to a definition, but to none of its members."""
    if definition.kind == "namespace":
        for begin, end in _between_imports(found, first, last):
            if _has_substance(rows, found, begin, end):
                yield _Range(begin, end, "text", definition.symbol)
    elif (
        definition.kind != "class"
        or first == definition.first_row  # The header of a class always counts.
        or _has_substance(rows, found, first, last)
    ):
        yield _Range(first, last, definition.kind, definition.symbol)


def _between_imports(found: Outline, first: int, last: int) -> Iterator[tuple[int, int]]:
    begin = first
    for row in range(first, last + 2):
        if row > last or row in found.import_rows:
            if begin < row:
                yield begin, row - 1
            begin = row + 1


def _has_substance(rows: Rows, found: Outline, first: int, last: int) -> bool:
    """Tell whether rows hold more than comments, imports, brackets and preprocessor conditions."""
    char_count = 0
    for row in range(first, last + 1):
        text = rows.texts[row]
        if row in found.quiet_rows or not re.search(r"\w", text) or _SCAFFOLD.match(text):
            continue
        char_count += len(text.strip())
        if char_count >= _MIN_TEXT_CHARS:
            return True
    return False


def _trim(rows: Rows, first: int, last: int) -> tuple[int, int]:
    while first < last and rows.is_blank(first):
        first += 1
    while first < last and rows.is_blank(last):
        last -= 1
    return first, last


def _pieces(content: str, max_chars: int) -> Iterator[str]:
    """Cut what no line end divides; drop what holds nothing."""
    for start in range(0, len(content), max_chars):
        piece = content[start : start + max_chars]
        if piece.strip():
            yield piece
