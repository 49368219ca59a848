"""`duovec index`: bring a codebase into line with a folder."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.failures import one_line_failures
from gateway.cli.index_report import IndexBar, print_report
from gateway.cli.options import DEFAULT_ENDPOINT, ApiKey, AsJson, Endpoint
from gateway.client.chunking import DEFAULT_MAX_CHARS
from gateway.client.client import Client
from gateway.client.indexer import index_tree


def slug_of(name: str) -> str:
    """Make a codebase id of a folder's name; empty where nothing of the name can be used."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].rstrip("-")


def codebase_of(path: Path) -> str:
    """The codebase id that a folder, or the folder of a file, has by default.

    Raises:
        typer.BadParameter: Its name makes none.
    """
    folder = path.resolve() if path.is_dir() else path.resolve().parent
    codebase_id = slug_of(folder.name)
    if not codebase_id:
        raise typer.BadParameter("the folder's name makes no codebase id; give one", param_hint="--codebase")
    return codebase_id


@one_line_failures
def index(
    path: Annotated[Path, typer.Argument(exists=True, help="Folder (or one file) to index.")],
    codebase: Annotated[str | None, typer.Option(help="Codebase id; by default made of the folder's name.")] = None,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
    max_chars: Annotated[int, typer.Option(min=100, help="Longest chunk, in characters.")] = DEFAULT_MAX_CHARS,
    as_json: AsJson = False,
) -> None:
    """Index source code: send what changed, delete what is gone.

    Run it again at any time; after an interruption it goes on where it stopped. Exits with 1 when a chunk failed.

    Skips, and says so: links, files of more than 1,000,000 bytes, empty ones, and what is not UTF-8 or has a NUL.
    Leaves out what .gitignore names, and the folders .git, .hg, .svn, .jj, .bzr, node_modules, __pycache__ and .venv.

    Examples:

        duovec index .

        duovec index ~/src/linux --codebase linux
    """
    codebase_id = codebase or codebase_of(path)
    with Client(endpoint, api_key=api_key) as client, IndexBar() as bar:
        report = index_tree(client, path, codebase_id, max_chars=max_chars, progress=bar)
    if as_json:
        typer.echo(json.dumps(report.to_dict()))
    else:
        print_report(report)
    if report.chunks_failed:
        raise typer.Exit(1)
