"""SQL stands in files and takes its values by parameters: no statement is put together from what somebody sent."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for package in ("gateway", "training") for path in (ROOT / package).rglob("*.py"))
RUN = {"execute", "executemany", "fetch", "fetchrow", "fetchval", "cursor", "prepare"}
# The name of the database is a constant; PostgreSQL takes no parameter in its place.
CONSTANT = {("gateway/local/postgres.py", "f'CREATE DATABASE \"{DATABASE}\"'")}


def statements(tree: ast.AST) -> Iterator[ast.expr]:
    """First arguments of what runs SQL."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in RUN and node.args:
            yield node.args[0]


def is_made_of_values(node: ast.expr) -> bool:
    """Whether an expression puts a statement together: an f-string, `+`, `%` or a method such as `format`."""
    return isinstance(node, ast.JoinedStr | ast.BinOp) or (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    )


def is_safe_part(node: ast.expr) -> bool:
    """What `format` may put into a query: another query, what a function of the module makes of such, or a number."""
    if isinstance(node, ast.IfExp):
        return is_safe_part(node.body) and is_safe_part(node.orelse)
    is_query = isinstance(node, ast.Subscript) and "QUERIES" in ast.unparse(node.value)
    is_made_here = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)  # int(...), _with_filter(...)
    return is_query or is_made_here or isinstance(node, ast.Name)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_statement_is_put_together_where_it_is_run(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    for node in statements(ast.parse(path.read_text(encoding="utf-8"))):
        assert not is_made_of_values(node) or (name, ast.unparse(node)) in CONSTANT, f"{name}:{node.lineno}"


def test_queries_are_formatted_with_queries_and_numbers_only() -> None:
    """The few statements with parts: fragments of the same files, lists of columns, and the number of a partition."""
    found = 0
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format"):
                continue
            if "QUERIES" in ast.unparse(node.func.value):
                found += 1
                assert not node.args
                for keyword in node.keywords:
                    assert is_safe_part(keyword.value), f"{path.name}:{node.lineno} {ast.unparse(keyword.value)}"
    assert found >= 3


def test_what_outlives_its_transaction_is_asked_for_without_one() -> None:
    """A connection is reset only after a block without transaction (`gateway.store.pool`)."""
    # `UPDATE … SET` stands at the beginning of a line, too; a setting of the session is the whole statement.
    lasting = {
        f"{path.name}: {query}"
        for path in (ROOT / "gateway" / "store" / "sql").glob("*.sql")
        for query in re.findall(
            r"^(?:SELECT pg_.*|SELECT set_config.*|SET .*|LISTEN .*)$", path.read_text(), re.MULTILINE
        )
        if re.search(r"pg_(try_)?advisory_lock\(|, false\)$|^LISTEN|^SET (?!LOCAL|.*,$|.*\$\d)", query)
    }
    assert lasting == {
        "migrations.sql: SELECT pg_advisory_lock(hashtext('duovec.migrations'))",  # on a connection of its own
        "recall.sql: SELECT pg_try_advisory_lock(hashtext('duovec.recall'))",
        "spaces.sql: SELECT pg_try_advisory_lock(hashtext('duovec.hnsw'), $1)",
        "spaces.sql: SELECT pg_try_advisory_lock(hashtext('duovec.fill'), $1)",
        "spaces.sql: SELECT set_config('maintenance_work_mem', $1::integer || 'MB', false)",
    }
