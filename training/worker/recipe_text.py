"""A recipe with the seed and the precision that were asked for, as TOML."""

import json
import tomllib
from collections.abc import Mapping
from typing import Any

from training.errors import TrainingError


def effective_recipe(text: str, *, seed: int | None, precision: str | None) -> str:
    """Replace what is not None; a recipe that needs no change stays as it was sent.

    Raises:
        TrainingError: It is not TOML.
    """
    if seed is None and precision is None:
        return text
    try:
        table = tomllib.loads(text)
    except ValueError as exc:  # besides TOML's own: an integer of more than 4,300 digits
        raise TrainingError(f"the recipe is not valid TOML: {exc}") from exc
    except RecursionError as exc:
        raise TrainingError("the recipe is not valid TOML: its tables or lists are nested too deeply") from exc
    if seed is not None:
        table["seed"] = seed
    if precision is not None:
        optimizer = table.setdefault("optimizer", {})
        if not isinstance(optimizer, dict):
            raise TrainingError("the recipe's optimizer must be a table")
        optimizer["precision"] = precision
    return "\n".join(_lines(table, "")) + "\n"


def _lines(table: Mapping[str, Any], where: str) -> list[str]:
    """A table's own keys, then its tables: what follows a header belongs to it."""
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    lines = [f"{_name(key)} = {_value(value, key)}" for key, value in plain.items()]
    for key, value in table.items():
        if isinstance(value, dict):
            path = f"{where}.{_name(key)}" if where else _name(key)
            lines += ["", f"[{path}]", *_lines(value, path)]
    return lines


def _name(key: str) -> str:
    return json.dumps(key, ensure_ascii=False)


def _value(value: object, key: str) -> str:
    # JSON's strings, numbers, booleans and lists are TOML's; recipes hold nothing else.
    if isinstance(value, str | bool | int | float) or (isinstance(value, list) and not _holds_tables(value)):
        return json.dumps(value, ensure_ascii=False)
    raise TrainingError(f"the recipe's {key} is {value!r}, which no recipe holds")


def _holds_tables(values: list[object]) -> bool:
    return any(not isinstance(one, str | bool | int | float) for one in values)
