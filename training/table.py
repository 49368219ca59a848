"""TOML tables read into frozen dataclasses: an unknown key, a missing one and a wrong type are named."""

import dataclasses
import reprlib
import types
import typing
from typing import Any

from training.errors import TrainingError

T = typing.TypeVar("T")
_short = reprlib.Repr()
_short.maxlong = _short.maxstring = _short.maxother = 60


def read_table(kind: type[T], value: Any, file_name: str, where: str = "") -> T:
    """Build a dataclass from a table; fields that are dataclasses read tables of their own.

    Args:
        kind: The dataclass. Fields with defaults may be left out.
        value: What the TOML file holds there.
        file_name: Named in errors.
        where: Path of the table within the file; empty for the whole file.

    Raises:
        TrainingError: A key is unknown, missing, or of another type, or the dataclass refuses the value.
    """
    if not isinstance(value, dict):
        raise TrainingError(f"{file_name}: {where or 'the file'} must be a table")
    prefix = f"{where}." if where else ""
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, kind))}
    for key in value:
        if key not in fields:
            raise TrainingError(f"{file_name}: unknown key {prefix}{key}; known: {', '.join(fields)}")
    arguments = {}
    for name, field in fields.items():
        if name in value:
            arguments[name] = _read(hints[name], value[name], file_name, f"{prefix}{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise TrainingError(f"{file_name}: missing key {prefix}{name}")
    try:
        return kind(**arguments)
    except ValueError as exc:
        raise TrainingError(f"{file_name}: {prefix}{exc}") from exc


def _read(hint: Any, value: Any, file_name: str, where: str) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):  # `X | None`: TOML leaves None out
        hint = next(one for one in typing.get_args(hint) if one is not type(None))
    if dataclasses.is_dataclass(hint):
        return read_table(typing.cast(type, hint), value, file_name, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise TrainingError(f"{file_name}: {where} must be a list, not {shorten(value)}")
        return tuple(_read(typing.get_args(hint)[0], one, file_name, f"{where}[{n}]") for n, one in enumerate(value))
    if typing.get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise TrainingError(f"{file_name}: {where} must be a table")
        return {key: _read(typing.get_args(hint)[1], one, file_name, f"{where}.{key}") for key, one in value.items()}
    # bool is an int in Python, and TOML writes a whole float as an integer.
    accepted = (int, float) if hint is float else (hint,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise TrainingError(f"{file_name}: {where} must be a {hint.__name__}, not {shorten(value)}")
    try:
        return float(value) if hint is float else value
    except OverflowError as exc:
        raise TrainingError(f"{file_name}: {where} is {shorten(value)}, more than a float holds") from exc


def shorten(value: object) -> str:
    """A value for a message: what is long is cut in its middle."""
    return _short.repr(value)
