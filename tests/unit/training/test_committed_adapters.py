"""The compact pair's committed adapters, against the recipes that they say they come from."""

from pathlib import Path

import pytest

from export.spec import load_builtin

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["compact-code", "compact-text"])
def test_the_compact_adapters_come_from_their_recipes(name: str) -> None:
    """The committed weights carry the recipe that made them, and are small enough for git."""
    adapters = load_builtin(name).adapters
    assert adapters is not None
    assert (adapters.path / "recipe.toml").read_bytes() == (ROOT / "training/recipes" / f"{name}.toml").read_bytes()
    assert sum(path.stat().st_size for path in adapters.path.iterdir()) <= 5_000_000
