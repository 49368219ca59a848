"""Every promise of deploy/SECURITY.md names a test that is there."""

import ast
import re
from pathlib import Path

import pytest

from gateway.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "deploy" / "SECURITY.md").read_text(encoding="utf-8")
PROMISES = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise[0][:40])
def test_a_promise_names_tests_that_exist(promise: list[str]) -> None:
    assert len(promise) == 3
    named = re.findall(r"`(tests/[a-z_/]+\.py)(?:::(\w+))?`", promise[2])
    assert named
    for path, test in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert any(name.startswith("test_") for name in functions)
        assert not test or test in functions


def test_its_variables_are_settings() -> None:
    named = set(re.findall(r"DUOVEC_([A-Z_]+)", PAGE))
    assert len(named) >= 5
    assert {name.lower() for name in named} <= Settings.model_fields.keys()
