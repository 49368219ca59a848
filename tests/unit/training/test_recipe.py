"""A recipe says what it means, or which key is wrong."""

from pathlib import Path

import pytest

from training.errors import TrainingError
from training.recipe import load_recipe


def _written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_and_tables_are_read(tmp_path: Path) -> None:
    """What is left out has the documented default, and a whole number serves as a float."""
    recipe, spec, digest = load_recipe(
        _written(
            tmp_path,
            'encoder = "compact-code"\n[data]\nshares = {docstring = 3, comment = 1.5}\n'
            "[optimizer]\nlearning_rate = 1\n",
        )
    )
    assert (recipe.optimizer.learning_rate, recipe.optimizer.max_gradient_norm) == (1.0, 1.0)
    assert recipe.data.shares == {"docstring": 3.0, "comment": 1.5}
    assert spec.name == "compact-code" and len(digest) == 64


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('encoder = "compact-code"\nspeed = 3\n[optimizer]\nlearning_rate = 1e-3\n', "unknown key speed"),
        (
            'encoder = "compact-code"\n[optimizer]\nlearning_rate = 1e-3\nmomentum = 1\n',
            "unknown key optimizer.momentum",
        ),
        ('encoder = "compact-code"\n', "missing key optimizer"),
        ('encoder = "compact-code"\n[optimizer]\nbatch = 8\n', "missing key optimizer.learning_rate"),
        ('encoder = "compact-code"\n[optimizer]\nlearning_rate = "high"\n', "optimizer.learning_rate must be a float"),
        ('encoder = "compact-code"\n[optimizer]\nlearning_rate = -1\n', "learning_rate is -1.0, must be above 0"),
        (
            'encoder = "compact-code"\n[optimizer]\nlearning_rate = 1e-3\nbatch = true\n',
            "optimizer.batch must be a int",
        ),
        ('encoder = "compact-code"\n[loss]\nname = "mse"\n[optimizer]\nlearning_rate = 1e-3\n', "name is 'mse'"),
        ('encoder = "compact-code"\n[loss]\nname = "triplet"\n[optimizer]\nlearning_rate = 1e-3\n', "hard_negatives"),
        ('encoder = "compact-code"\n[loss]\nmatryoshka = [4096]\n[optimizer]\nlearning_rate = 1e-3\n', "1535"),
        ('encoder = "compact-code"\n[data]\npassage_tokens = 9999\n[optimizer]\nlearning_rate = 1e-3\n', "reads 512"),
        ("encoder = [", "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    """The author of a recipe learns which key to mend."""
    with pytest.raises(TrainingError) as raised:
        load_recipe(_written(tmp_path, text))
    assert named in str(raised.value)
    assert "recipe.toml" in str(raised.value)
