"""What is cut out of code: docstrings and comments, compared with Python's own parser and tokenizer."""

import ast
import inspect
import io
import sysconfig
import tokenize
from collections import Counter
from pathlib import Path

import pytest
from mined_sources import unit_of

from gateway.client.chunking import chunk_file
from training.data.anatomy import Call, dissect, without_rows
from training.data.unit import Unit

LIBRARY = Path(sysconfig.get_path("stdlib"))


def _units(path: Path) -> list[Unit]:
    chunks = chunk_file(path.name, path.read_bytes(), max_chars=20_000)
    return [unit_of(one.content, path=path.name, symbol=one.symbol, kind=one.kind) for one in chunks]


@pytest.mark.parametrize("name", ["argparse.py", "textwrap.py", "json/decoder.py", "email/message.py", "heapq.py"])
def test_docstrings_are_those_that_python_sees(name: str) -> None:
    """The query is what the author wrote, whole, whatever quotes and indentation it has."""
    tree = ast.parse((LIBRARY / name).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    expected = Counter(
        (node.name, ast.get_docstring(node))
        for node in ast.walk(tree)
        if isinstance(node, kinds) and node.end_lineno != node.lineno and ast.get_docstring(node)
    )
    found = Counter(
        (unit.name, inspect.cleandoc(ast.literal_eval(f'"""{prose.text}"""')))
        for unit in _units(LIBRARY / name)
        if unit.kind != "class" and (prose := dissect(unit).docstring) is not None
    )
    # Functions in functions belong to the chunk around them.
    assert found <= expected
    assert found.total() >= 0.9 * expected.total() > 0


def test_comments_are_those_that_own_their_rows_and_nothing_of_a_string() -> None:
    source = (LIBRARY / "argparse.py").read_text()
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    whole_rows = {
        token.string.lstrip("#").strip()
        for token in tokens
        if token.type == tokenize.COMMENT and token.line.strip() == token.string
    }
    found = {
        line.strip()
        for unit in _units(LIBRARY / "argparse.py")
        for one in dissect(unit).comments
        for line in one.text.split("\n")
    }
    assert found <= whole_rows
    assert len(found) > 100


def test_a_cut_leaves_code_that_parses_without_the_docstring() -> None:
    content = 'def take(queue):\n    """Take the first."""\n    # It may be empty.\n    return queue.pop(0)\n'.rstrip()
    parts = dissect(unit_of(content))
    assert parts.docstring is not None
    cut = set(range(parts.docstring.first, parts.docstring.last + 1))
    left = without_rows(content, cut | {parts.comments[0].first})
    assert left == "def take(queue):\n    return queue.pop(0)"


def test_the_comment_above_is_the_docstring_in_other_languages() -> None:
    comment = "/**\n * Opens a socket.\n * @param host where\n */\n"
    content = comment + "int open_socket(char *host) {\n    // one try\n    return 1;\n}"
    parts = dissect(unit_of(content, path="src/net.c"))
    assert parts.docstring is not None
    assert parts.docstring.text.split("\n")[0] == "Opens a socket."
    assert [one.text for one in parts.comments] == ["one try"]


def test_calls_tell_what_stands_before_the_dot() -> None:
    content = "def run(self):\n    start()\n    self.stop()\n    a.b.c.go_on()\n    queue.put_all(x)"
    assert dissect(unit_of(content)).calls == (
        Call("start", "", 1),
        Call("stop", "self", 2),
        Call("go_on", "?", 3),
        Call("put_all", "queue", 4),
    )
