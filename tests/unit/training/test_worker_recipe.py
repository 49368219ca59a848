"""The recipe of a run with the seed and the precision that were asked for."""

import tomllib
from pathlib import Path

import pytest

from training.errors import TrainingError
from training.recipe import load_recipe
from training.worker.recipe_text import effective_recipe
from training.worker.stages import last_metrics

RECIPES = sorted((Path(__file__).parents[3] / "training" / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_only_seed_and_precision_change(path: Path, tmp_path: Path) -> None:
    """Every committed recipe, read back by the same reader."""
    text = path.read_text(encoding="utf-8")
    changed = effective_recipe(text, seed=123, precision="bf16")
    expected = tomllib.loads(text)
    expected["seed"] = 123
    expected["optimizer"]["precision"] = "bf16"
    assert tomllib.loads(changed) == expected
    (tmp_path / "recipe.toml").write_text(changed, encoding="utf-8")
    recipe = load_recipe(tmp_path / "recipe.toml")[0]
    assert (recipe.seed, recipe.optimizer.precision) == (123, "bf16")


def test_what_needs_no_change_stays_as_it_was_sent() -> None:
    text = "# a comment\nseed   = 5\n"
    assert effective_recipe(text, seed=None, precision=None) == text


def test_strings_and_tables_survive() -> None:
    text = 'encoder = "a\\"b\\\\ü\\n"\n[data.shares]\n"two words" = 1.5\n[loss]\nmatryoshka = [1, 2]\n[optimizer]\n'
    table = tomllib.loads(text)
    assert tomllib.loads(effective_recipe(text, seed=1, precision=None)) == {**table, "seed": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed = ", "not valid TOML"),
        ("seed = 1" + "0" * 5_000, "not valid TOML"),
        ("a = " + "[" * 5_000, "not valid TOML"),
        ("optimizer = 3", "must be a table"),
        ("when = 2026-01-01", "no recipe holds"),
    ],
)
def test_what_is_no_recipe_is_named(text: str, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        effective_recipe(text, seed=1, precision="fp32")


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert last_metrics(path) is None
    path.write_text('{"step": 1}\n{"step": 2}\n{"st', encoding="utf-8")
    assert last_metrics(path) == {"step": 2}
