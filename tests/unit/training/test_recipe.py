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


def _with(top: str, optimizer: str = "") -> str:
    return f'encoder = "compact-code"\n{top}\n[optimizer]\nlearning_rate = 1e-3\n{optimizer}\n'


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
        (f"seed = {'9' * 5000}", "is not valid TOML: Exceeds the limit"),
        (f"data = {'[' * 5000}{']' * 5000}", "is not valid TOML: its tables or lists are nested too deeply"),
        ('encoder = "\\u0000"\n[optimizer]\nlearning_rate = 1\n', "encoder is '\\x00', must be a name or a path"),
        (_with("seed = -1"), "seed is -1, must be 0 to 4294967295"),
        (_with("seed = 5000000000"), "seed is 5000000000, must be 0 to 4294967295"),
        (_with(f"seed = {'9' * 4000}"), "999...999"),
        (_with("", f"weight_decay = {'9' * 400}"), "more than a float holds"),
        (_with("", "weight_decay = nan"), "optimizer.weight_decay is nan, must be 0 to 1"),
        (_with("", "head_learning_rate = -1"), "head_learning_rate is -1.0, must be above 0, up to 1"),
        (_with("", "epochs = 0"), "optimizer.epochs is 0, must be 1 to 10000"),
        (_with("", "max_gradient_norm = nan"), "max_gradient_norm is nan, must be above 0"),
        (_with("divergence = nan"), "divergence is nan, must be above 1"),
        (_with("[loss]\nmatryoshka = [64, 128, 64]"), "loss.matryoshka is (64, 128, 64), must be distinct"),
        (_with("[data]\nshares = { docstring = inf }"), "data.shares.docstring is inf, must be above 0"),
        (_with("[lora]\nalpha = inf"), "lora.alpha is inf, must be above 0, up to 10000"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    """The author of a recipe learns which key to mend."""
    with pytest.raises(TrainingError) as raised:
        load_recipe(_written(tmp_path, text))
    assert named in str(raised.value)
    assert "recipe.toml" in str(raised.value)
