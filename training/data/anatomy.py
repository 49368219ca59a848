"""Takes a unit apart: its docstring, its comments, what it calls, and the code that is left."""

import re
from dataclasses import dataclass

from tree_sitter import Node

from gateway.client.languages import COMMENTS, grammar_of, parser_for
from training.data.unit import Unit

_CALLS = frozenset({"call", "call_expression", "method_invocation", "new_expression", "macro_invocation"})
_STRING = re.compile(r"[a-zA-Z]{0,2}(\"\"\"|'''|\"|')(?P<text>.*)\1", re.DOTALL)
_MARKER = re.compile(r"^\s*(?:#+:?|//[/!]?|/\*[*!]?|\*(?!/)|--)[ \t]?|\s*\*+/\s*$")


@dataclass(frozen=True, slots=True)
class Prose:
    """Text for readers inside a unit.

    Attributes:
        text: Without quotes and comment signs; line ends stay.
        first: Its first row within the unit, counted from 0.
        last: Its last row, inclusive.
    """

    text: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Call:
    """A call inside a unit.

    Attributes:
        name: The called name, without what stands before a dot.
        receiver: What stands before the dot, if it is one name; "" for a bare call, "?" for anything longer.
        row: Where, within the unit, counted from 0.
    """

    name: str
    receiver: str
    row: int


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What a unit consists of.

    Attributes:
        docstring: Python's docstring, or the doc comment above the definition; None without one.
        comments: Comments that own their rows, neighbours joined, in order; the docstring is not among them.
        calls: In order.
    """

    docstring: Prose | None
    comments: tuple[Prose, ...]
    calls: tuple[Call, ...]


def dissect(unit: Unit) -> Anatomy:
    """Take a unit apart by its syntax; a language without grammar has no parts."""
    grammar = grammar_of(unit.path, unit.content)
    if grammar is None:
        return Anatomy(None, (), ())
    data = unit.content.encode()
    root = parser_for(grammar).parse(data).root_node
    rows = data.split(b"\n")
    comment_nodes: list[Node] = []
    calls: list[Call] = []
    docstring: Prose | None = None
    code_row = len(rows)
    stack = [root]
    while stack:
        node = stack.pop()
        if node.type in COMMENTS:
            comment_nodes.append(node)
            continue
        if not node.children:
            code_row = min(code_row, node.start_point.row)
        if node.type in _CALLS and (call := _call(node)) is not None:
            calls.append(call)
        if docstring is None and grammar.name == "python" and node.type in {"function_definition", "class_definition"}:
            docstring = _docstring(node, rows)
        stack.extend(reversed(node.children))
    comments = _join([prose for node in comment_nodes if (prose := _comment(node, rows)) is not None])
    if docstring is None and grammar.name != "python":
        # The last of several leading comments is the nearest to the definition; the others may be anything.
        leading = [comment for comment in comments if comment.last < code_row]
        docstring = leading[-1] if leading else None
    return Anatomy(docstring, tuple(one for one in comments if one is not docstring), tuple(calls))


def without_rows(content: str, cut: set[int]) -> str:
    """Give a text without some of its rows, and without the blank rows that would then begin or end it."""
    kept = [row for number, row in enumerate(content.split("\n")) if number not in cut]
    while kept and not kept[0].strip():
        kept.pop(0)
    while kept and not kept[-1].strip():
        kept.pop()
    return "\n".join(kept)


def _docstring(definition: Node, rows: list[bytes]) -> Prose | None:
    body = definition.child_by_field_name("body")
    first = next((child for child in body.named_children if child.type not in COMMENTS), None) if body else None
    node = first.named_children[0] if first is not None and first.type == "expression_statement" else first
    if node is None or node.type != "string" or not _owns_rows(node, rows):
        return None
    match = _STRING.fullmatch((node.text or b"").decode("utf-8", "replace"))
    return Prose(match["text"], node.start_point.row, node.end_point.row) if match else None


def _comment(node: Node, rows: list[bytes]) -> Prose | None:
    if not _owns_rows(node, rows):
        return None
    text = (node.text or b"").decode("utf-8", "replace").rstrip("\n")
    lines = [_MARKER.sub("", _MARKER.sub("", line)) for line in text.split("\n")]
    first = node.start_point.row
    return Prose("\n".join(lines).strip(), first, first + text.count("\n"))


def _join(comments: list[Prose]) -> list[Prose]:
    joined: list[Prose] = []
    for comment in comments:
        if joined and joined[-1].last + 1 == comment.first:
            before = joined.pop()
            comment = Prose(f"{before.text}\n{comment.text}", before.first, comment.last)
        joined.append(comment)
    return joined


def _owns_rows(node: Node, rows: list[bytes]) -> bool:
    """Whether nothing else stands in the rows of a node."""
    start, end = node.start_point, node.end_point
    return not rows[start.row][: start.column].strip() and (
        end.column == 0 or not rows[end.row][end.column :].strip(b" \t\r;")
    )


def _call(node: Node) -> Call | None:
    target = (
        node.child_by_field_name("function")
        or node.child_by_field_name("constructor")
        or node.child_by_field_name("name")
        or node.child_by_field_name("macro")
    )
    text = (target.text or b"").decode("utf-8", "replace") if target is not None else ""
    receiver, _, name = re.sub(r"::|->", ".", text).rpartition(".")
    if not re.fullmatch(r"[A-Za-z_$][\w$]*", name):
        return None
    if node.type == "method_invocation" and (owner := node.child_by_field_name("object")) is not None:
        receiver = (owner.text or b"").decode("utf-8", "replace")
    return Call(name, receiver if re.fullmatch(r"[\w$]*", receiver) else "?", node.start_point.row)
