"""Named queries from the SQL files beside this module.

A file holds queries of the form

    -- name: get_codebase
    -- Gets one codebase by its id.
    SELECT ...
"""

import re
from collections.abc import Mapping
from importlib.resources import files

_HEADER = re.compile(r"^-- name: (?P<name>[a-z0-9_]+)\n-- (?P<purpose>.+)\n", re.MULTILINE)


def load_queries(file_name: str) -> Mapping[str, str]:
    """Load the queries of one file of `gateway/store/sql`.

    Args:
        file_name: Such as `chunks.sql`.

    Returns:
        The SQL by name.

    Raises:
        ValueError: The file holds a name twice, a query without name and purpose, or a name without query.
    """
    return parse_queries((files("gateway.store") / "sql" / file_name).read_text(encoding="utf-8"), file_name)


def parse_queries(text: str, file_name: str) -> Mapping[str, str]:
    """Split the text of a query file; see `load_queries`."""
    headers = list(_HEADER.finditer(text))
    if not headers or text[: headers[0].start()].strip() or len(headers) != text.count("-- name:"):
        raise ValueError(f"{file_name}: every query needs a `-- name:` line and a line that says its purpose")
    queries: dict[str, str] = {}
    ends = [header.start() for header in headers[1:]] + [len(text)]
    for header, end in zip(headers, ends, strict=True):
        name, sql = header["name"], text[header.end() : end].strip()
        if name in queries or not sql:
            raise ValueError(f"{file_name}: the query {name!r} stands there twice, or is empty")
        queries[name] = sql
    return queries
