"""Parameters by name, for statements that are put together from several queries."""

import re
from collections.abc import Mapping
from typing import Any

_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")


def bind(sql: str, values: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Number the parameters `:name` of a statement; `::` casts stay.

    Args:
        sql: The statement.
        values: By name; those that the statement does not use are left out.

    Returns:
        The statement with `$1`, `$2`, … and its arguments in that order.

    Raises:
        KeyError: The statement uses a name that has no value.
    """
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        name = match[1]
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    numbered = _PARAMETER.sub(number, sql)
    return numbered, [values[name] for name in names]
