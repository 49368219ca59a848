"""The client's page names every method and argument, and its types are those that a user's checker sees."""

import ast
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gateway.client
from gateway.client import AsyncClient, Client, index_tree, sync_tree
from gateway.client.access import Access
from gateway.client.spaces import Spaces
from gateway.client.training import Training

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
TYPED = Path(__file__).with_name("typed_client.py")


def calls() -> dict[str, Callable[..., Any]]:
    """Everything public that is called, by its name on the page."""
    found: dict[str, Callable[..., Any]] = {"Client": Client, "index_tree": index_tree, "sync_tree": sync_tree}
    groups = {"client": AsyncClient, "client.access": Access, "client.spaces": Spaces, "client.training": Training}
    for prefix, group in groups.items():
        for name in dir(group):
            if not name.startswith("_") and callable(getattr(group, name)):
                found[f"{prefix}.{name}"] = getattr(group, name)
    return found


def signature(call: Callable[..., Any]) -> str:
    """As it would be written without annotations, and without `self`."""
    parameters = inspect.signature(call).parameters.values()
    bare = [parameter.replace(annotation=parameter.empty) for parameter in parameters if parameter.name != "self"]
    return ast.unparse(ast.parse(f"def f{inspect.Signature(bare)}: ..."))


def test_the_page_has_every_call_with_every_argument() -> None:
    """Names, order, which are by keyword only, and defaults."""
    rows = re.findall(r"^\| `([\w.]+)(\(.*?\))` \|", PAGE, re.MULTILINE)
    written = {name: ast.unparse(ast.parse(f"def f{arguments}: ...")) for name, arguments in rows}
    assert len(written) == len(rows)
    assert written == {name: signature(call) for name, call in calls().items()}


def test_the_page_names_all_that_is_exported() -> None:
    unnamed = {name for name in gateway.client.__all__ if not re.search(rf"\b{name}\b", PAGE)}
    assert unnamed == {"FieldViolation"}, "of which the page has the fields, as `violations`"


def test_a_users_types_are_checked() -> None:
    """By strict mypy: what is right passes, and what is wrong is seen (an ignored error that is none fails)."""
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file=", "--strict", "--follow-imports=silent"),
            *("--explicit-package-bases", "--cache-dir=.mypy_cache/typed_client", TYPED),
        ],
        cwd=ROOT,
        env=os.environ | {"MYPYPATH": f"{ROOT}:{ROOT / 'protos'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    # Of installed packages mypy reports nothing; here the stubs of the protos lie beside, which are not strict.
    said = [line for line in checked.stdout.splitlines() if not line.startswith("protos/duovec/v1/")]
    assert re.fullmatch(r"(Found \d+ errors in \d+ files \(checked 1 source file\)|Success: .*)", "\n".join(said)), said
    assert (ROOT / "gateway" / "py.typed").exists()
    assert (ROOT / "protos" / "duovec" / "py.typed").exists()
