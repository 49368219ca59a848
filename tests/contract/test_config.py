"""The entry points of continuous integration and of people are the same."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_ci_runs_make_test_and_nothing_else() -> None:
    """What CI runs is what a developer can run."""
    script = ROOT / ".ci" / "run"
    lines = script.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("#!")
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in lines
    assert [line for line in lines if line and not re.match(r"#|set |cd ", line)] == ["make test"]


def test_make_test_includes_the_quick_checks_and_the_integration_tests() -> None:
    """`make test` is everything."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    slow = re.search(r"^test: check\n((?:[\t#].*\n)+)", makefile, re.MULTILINE)
    assert slow is not None
    run = re.findall(r"^\t\S*pytest (.*)$", slow[1], re.MULTILINE)
    suites = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} - {"__pycache__", "benchmarks"}
    assert {f"tests/{suite}" for suite in suites} == {*run, "tests/unit", "tests/contract"}
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    for step in ("ruff format --check", "ruff check", "mypy", "lint-imports", "pytest tests/unit tests/contract"):
        assert step in recipe[1]
