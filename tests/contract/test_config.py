"""The entry points of continuous integration and of people are the same."""

import os
import re
import subprocess
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


def commands(target: str) -> list[str]:
    """What `make` would run; the suites that it starts may run side by side."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    words = ["make", "--dry-run", "--no-print-directory", target]
    told = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return told.stdout.splitlines()


def suites(lines: list[str]) -> list[str]:
    """The folders of tests that are run, each with the marker that chooses among its tests."""
    runs = [line.partition("pytest ")[2].partition(" -m ") for line in lines if re.match(r"\S+/pytest ", line)]
    return [f"{folder} {marker}".strip() for folders, _, marker in runs for folder in folders.split()]


def test_make_test_includes_the_quick_checks_and_every_suite_once() -> None:
    """`make test` is everything."""
    run = commands("test")
    tests = ROOT / "tests"
    folders = [*tests.iterdir(), *(tests / "integration").iterdir()]
    there = {path.relative_to(ROOT).as_posix() for path in folders if path.is_dir() and path.name != "__pycache__"}
    there -= {"tests/benchmarks", "tests/integration", "tests/faults"}
    assert sorted(suites(run)) == sorted([*there, "tests/faults alone", 'tests/faults "not alone"'])
    assert suites(run)[-1] == "tests/faults alone"
    quick = commands("check")
    assert suites(quick) == ["tests/unit", "tests/contract"]
    for step in ("ruff format --check", "ruff check", "mypy", "lint-imports"):
        assert all(any(step in line for line in lines) for lines in (run, quick))
