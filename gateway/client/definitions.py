"""Finds the definitions of a parsed file: who they are, and which rows belong to them.

Rows count from 0 here, as in tree-sitter. Every walk keeps its own stack: source nests deeper than Python recurses.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tree_sitter import Node

from gateway.client.languages import COMMENTS, Grammar

# Those that are no whitespace; the service takes none in a symbol, which is shown in terminals.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
_CLOSERS = re.compile(rb"[\s;,)}\]>]*(?://.*|/\*.*|#.*)?")

# JavaScript's definitions without a name: they are one where a variable or a field gives them its name.
_VALUES = frozenset({"arrow_function", "function_expression", "generator_function", "class"})

# Thousands of nested definitions, as fuzzers write them, would otherwise take quadratic memory.
_MAX_SYMBOL_CHARS = 1024


@dataclass(slots=True)
class Definition:
    """A function, method, class or namespace, or, as the root, the file itself.

    Attributes:
        symbol: Dotted path without control characters, cut after 1,024; empty for the file.
        kind: "function", "method", "class" or "namespace".
        first_row: With decorators and doc comments.
        last_row: Inclusive.
        body_row: Where the body begins; rows before it are the header.
        members: Definitions inside that are chunked on their own, in order, on rows of their own.
    """

    symbol: str
    kind: str
    first_row: int
    last_row: int
    body_row: int
    members: list["Definition"] = field(default_factory=list)


@dataclass(slots=True)
class Outline:
    """What a file holds.

    Attributes:
        root: The file.
        quiet_rows: Rows of whole-line comments and of headers of namespaces; no chunk is made of them alone.
        import_rows: Rows of imports.
    """

    root: Definition
    quiet_rows: set[int]
    import_rows: set[int]


@dataclass(frozen=True, slots=True)
class _Found:
    node: Node
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the walk is: the nearest definition that is chunked, and the full symbol path around."""

    container: Definition
    symbol: str
    in_class: bool


def outline(root: Node, rows: list[bytes], grammar: Grammar, *, max_chars: int) -> Outline:
    """Find the definitions of a file.

    Args:
        root: Root of the syntax tree.
        rows: The file's rows, without line ends.
        grammar: The file's grammar.
        max_chars: A function longer than this has its larger nested definitions chunked on their own.

    Returns:
        The definitions as a tree, their rows disjoint.
    """
    file = Definition("", "namespace", 0, len(rows) - 1, 0)
    found = Outline(file, set(), set())
    comment_rows: set[int] = set()
    seen: set[int] = set()
    stack = [(child, _Place(file, "", False)) for child in reversed(root.children)]
    while stack:
        node, place = stack.pop()
        first, last = _rows_of(node)
        if node.type in COMMENTS or node.type in grammar.annotations:
            if _blank_before(node, rows):
                comment_rows.update(range(first, last + 1))
            continue
        if node.type in grammar.imports:
            found.import_rows.update(range(first, last + 1))
            continue
        hit = None if node.id in seen else _find(node, grammar, seen)
        if hit is not None:
            place = _enter(node, hit, place, rows, found, max_chars)
            if hit.kind == "function" and node.end_byte - node.start_byte <= max_chars:
                continue
        if last > first:  # What is inside a single row owns no row.
            stack.extend((child, place) for child in reversed(node.children))
    _settle(file, rows, comment_rows, scrap_bytes=max_chars // 20)
    found.quiet_rows |= comment_rows
    return found


def _enter(node: Node, hit: _Found, place: _Place, rows: list[bytes], found: Outline, max_chars: int) -> _Place:
    """Record a definition where it can be chunked on its own; give the place that its inside is in."""
    first, last = _rows_of(node)
    symbol = f"{place.symbol}.{hit.name}" if place.symbol and hit.name else hit.name or place.symbol
    symbol = _CONTROL.sub("", symbol)
    symbol = " ".join(symbol.split())[:_MAX_SYMBOL_CHARS]  # a name may span lines, as with C++ template arguments
    kind = hit.kind
    if kind == "function" and (place.in_class or node.type == "method_declaration" or "." in hit.name):
        kind = "method"
    body = hit.node.child_by_field_name("body")
    body_row = body.start_point.row if body is not None else first
    if kind == "namespace":
        found.quiet_rows.update(range(first, body_row + 1))
    inside = kind == "class" or hit.node.type == "impl_item"
    container = place.container
    alone = _blank_before(node, rows) and _CLOSERS.fullmatch(rows[last][_column_after(node) :]) is not None
    if container.kind in {"function", "method"}:
        alone = alone and node.end_byte - node.start_byte > max_chars // 4
    elif container.kind == "class" and kind == "method":
        # Accessors of one line say more together, in the chunk of their class.
        alone = alone and last > first
    if alone:
        container.members.append(Definition(symbol, kind, first, last, body_row))
        container = container.members[-1]
    return _Place(container, symbol, inside)


def _settle(file: Definition, rows: list[bytes], comment_rows: set[int], *, scrap_bytes: int) -> None:
    """Give every definition the comments directly above it, and the scraps after nested ones to the one before."""
    for container in walk(file):
        floor = container.first_row if container is file else container.body_row
        for member in container.members:
            while member.first_row > floor and member.first_row - 1 in comment_rows:
                member.first_row -= 1
            floor = member.last_row + 1
        if container.members and container.kind in {"function", "method"}:
            ends = [member.first_row - 1 for member in container.members[1:]] + [container.last_row]
            for member, end in zip(container.members, ends, strict=True):
                if sum(map(len, rows[member.last_row + 1 : end + 1])) <= scrap_bytes:
                    member.last_row = end  # `return wrapper`, `}`: nothing to find on their own.


def walk(definition: Definition) -> Iterator[Definition]:
    """Yield a definition and everything below it, parents first."""
    stack = [definition]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(reversed(current.members))


def _find(node: Node, grammar: Grammar, seen: set[int]) -> _Found | None:
    """Tell whether a node is a definition, or a wrapper around exactly one; add what it went through to `seen`.

    A wrapper inside another would otherwise be taken for a second definition of the same name.
    """
    name = ""
    while True:
        seen.add(node.id)
        if node.type in grammar.functions:
            if node.child_by_field_name("body") is None and node.type != "macro_definition":
                return None
            return _Found(node, "function", name or _function_name(node))
        if node.type in grammar.classes:
            if node.type in grammar.needs_body and node.child_by_field_name("body") is None:
                return None
            return _Found(node, "class", _type_name(node) or name)
        if node.type in grammar.namespaces:
            if node.child_by_field_name("body") is None:
                return None
            return _Found(node, "namespace", _type_name(node))
        if node.type not in grammar.wrappers:
            return None
        inner, given = _unwrap(node)
        if inner is None:
            return None
        node, name = inner, given or name


def _unwrap(wrapper: Node) -> tuple[Node | None, str]:
    """Give the node inside a wrapper that may be the definition, and the name that the wrapper gives it."""
    match wrapper.type:
        case "decorated_definition":
            return wrapper.child_by_field_name("definition"), ""
        case "export_statement":
            inner = wrapper.child_by_field_name("declaration") or wrapper.child_by_field_name("value")
            return inner, "default" if any(child.type == "default" for child in wrapper.children) else ""
        case "type_definition":
            return wrapper.child_by_field_name("type"), _text(_declared(wrapper))
        case "field_definition" | "public_field_definition":
            name = wrapper.child_by_field_name("property") or wrapper.child_by_field_name("name")
            return _function_value(wrapper.child_by_field_name("value")), _text(name)
    held = [child for child in wrapper.named_children if child.type not in COMMENTS]
    if wrapper.type == "template_declaration":
        return (held[-1] if held else None), ""
    if len(held) != 1:
        return None, ""
    only = held[0]
    if only.type == "variable_declarator":
        return _function_value(only.child_by_field_name("value")), _text(only.child_by_field_name("name"))
    if only.type == "assignment_expression":
        left = _text(only.child_by_field_name("left"))
        target = re.sub(r"^(module\.)?exports\.|\bprototype\.", "", left)
        named = re.fullmatch(r"[\w$.]+", target) is not None
        return (_function_value(only.child_by_field_name("right")) if named else None), target
    return (None if only.type in _VALUES else only), ""


def _function_value(value: Node | None) -> Node | None:
    return value if value is not None and value.type in _VALUES else None


def _function_name(node: Node) -> str:
    if node.type == "method_declaration" and (receiver := node.child_by_field_name("receiver")) is not None:
        return f"{_first_type(receiver)}.{_text(node.child_by_field_name('name'))}"
    name = node.child_by_field_name("name") or _declared(node)
    return re.sub(r"\s+", " ", _text(name)).replace("::", ".")


def _type_name(node: Node) -> str:
    if node.type == "impl_item":
        implementor = node.child_by_field_name("type")
        if implementor is not None and implementor.type == "generic_type":
            implementor = implementor.child_by_field_name("type")
        return _text(implementor).replace("::", ".")
    return _text(node.child_by_field_name("name")).replace("::", ".").strip("\"'")


def _declared(node: Node) -> Node | None:
    """Follow C declarators (pointers, references, parameters) to the name that they declare."""
    current = node.child_by_field_name("declarator")
    while current is not None:
        inner = current.child_by_field_name("declarator")
        if inner is None and current.type in {"reference_declarator", "parenthesized_declarator"}:
            inner = next(iter(reversed(current.named_children)), None)
        if inner is None:
            return current
        current = inner
    return None


def _first_type(node: Node) -> str:
    """Name the first type below a node; for the receiver of a Go method."""
    stack = [node]
    while stack:
        current = stack.pop()
        if current.type == "type_identifier":
            return _text(current)
        stack.extend(reversed(current.named_children))
    return ""


def _text(node: Node | None) -> str:
    return (node.text or b"").decode("utf-8", "replace") if node is not None else ""


def _rows_of(node: Node) -> tuple[int, int]:
    # Rust's line comments include their line end, and would claim the next row.
    start, end = node.start_point, node.end_point
    return start.row, end.row - 1 if end.column == 0 and end.row > start.row else end.row


def _blank_before(node: Node, rows: list[bytes]) -> bool:
    return not rows[node.start_point.row][: node.start_point.column].strip()


def _column_after(node: Node) -> int:
    _, last = _rows_of(node)
    # A node that ends at a line end ends its last row.
    return node.end_point.column if node.end_point.row == last else 1 << 30
