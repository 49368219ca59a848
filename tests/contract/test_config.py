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


def test_make_test_includes_the_quick_checks_and_every_suite_once() -> None:
    """`make test` is everything."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    def recipe(target: str, needs: str) -> str:
        found = re.search(rf"^{target}: {re.escape(needs)}\n((?:[\t#].*\n)+)", makefile, re.MULTILINE)
        assert found is not None, target
        return found[1]

    def suites(*recipes: str) -> list[str]:
        runs = [run.split() for text in recipes for run in re.findall(r"^\t\S*pytest (.*)$", text, re.MULTILINE)]
        return [suite for run in runs for suite in run]

    installed, test = "$(VENV)/installed", recipe("test", "lint")
    assert "--jobs=2" in test and re.search(r" computing waiting$", test, re.MULTILINE)
    tests = ROOT / "tests"
    folders = [*tests.iterdir(), *(tests / "integration").iterdir()]
    there = {path.relative_to(ROOT).as_posix() for path in folders if path.is_dir() and path.name != "__pycache__"}
    run = suites(test, recipe("computing", installed), recipe("waiting", f"{installed} browser"))
    assert sorted(run) == sorted(there - {"tests/benchmarks", "tests/integration"})
    quick, checked = recipe("check", "lint"), recipe("lint", installed)
    assert suites(quick) == ["tests/unit", "tests/contract"]
    for step in ("ruff format --check", "ruff check", "mypy", "lint-imports"):
        assert step in checked
