"""A small data set in the format that mining writes, made of real functions of the standard library."""

import ast
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet

_MODULES = {
    "train": (
        "argparse",
        "ast",
        "calendar",
        "configparser",
        "csv",
        "datetime",
        "decimal",
        "difflib",
        "tarfile",
        "zipfile",
    ),
    "dev": ("textwrap", "shutil"),
    "test": ("tempfile", "threading"),
}
# Of a passage that is searched: every system of an evaluation encodes them all, and the long ones cost the most.
_LONGEST_TESTED_CHARS = 600


def rows_of(module: str) -> list[dict[str, Any]]:
    """Every function of a module that has a docstring: its first line asks, the rest answers."""
    name = "_pydecimal" if module == "decimal" else module
    path = Path(str(import_module(name).__file__))
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    rows = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef) or len(node.body) < 2 or not (doc := ast.get_docstring(node)):
            continue
        code = [*lines[node.lineno - 1 : node.body[0].lineno - 1], *lines[node.body[1].lineno - 1 : node.end_lineno]]
        rows.append(
            {
                "query": doc.splitlines()[0],
                "positive": f"{node.name}\n" + "\n".join(code),
                "negatives": ["unrelated\ndef unrelated():\n    return 1"],
                "query_style": "docstring" if len(rows) % 2 else "comment",
                "language": "python",
                "package": module,
                "path": path.name,
                "symbol": node.name,
                "unit": f"{module}:{node.lineno}",
                "start_line": node.lineno,
                "end_line": node.end_lineno,
                "rows": [f"{path.name}:{node.lineno}-{node.end_lineno}"],
                "scope": [],
            }
        )
    return rows


def write_data(folder: Path, *, limit: int | None = None) -> Path:
    """The three splits and a card; `limit` cuts the training rows, and the test rows are the short ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, modules in _MODULES.items():
        rows = [row for module in modules for row in rows_of(module)]
        if split == "train":
            rows = rows[:limit]
        elif split == "test":
            rows = [row for row in rows if len(row["positive"]) <= _LONGEST_TESTED_CHARS]
        parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"{split}.parquet")
    (folder / "card.json").write_text(json.dumps({"name": "test"}), encoding="utf-8")
    return folder
