"""A recipe and a base that train in seconds: the small encoder of `small_checkpoint`."""

import json
from pathlib import Path

from small_checkpoint import write_checkpoint, write_spec


def write_recipe(folder: Path, *, extra: str = "", **optimizer: object) -> Path:
    """A recipe in `folder`, its spec beside it; `extra` are more lines, `optimizer` replaces values."""
    folder.mkdir(parents=True, exist_ok=True)
    write_spec(folder / "small.toml")
    values = {"learning_rate": 2e-3, "batch": 8, "max_steps": 12, "base_dropout": True, **optimizer}
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
    path = folder / "recipe.toml"
    path.write_text(
        f'encoder = "small.toml"\n{extra}\n[data]\npassage_tokens = 64\nquery_tokens = 32\n[optimizer]\n{lines}\n'
        "[checkpoints]\nevery_steps = 4\nkeep = 2\n",
        encoding="utf-8",
    )
    return path


def write_base(folder: Path) -> Path:
    """The base of the small encoder, with adapters to go on from."""
    folder.mkdir(parents=True, exist_ok=True)
    return write_checkpoint(folder, seed=1)
