"""`duovec demo`: start everything, index some code, search it, stop everything."""

import asyncio
import shutil
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.index import index, slug_of
from gateway.cli.search import search
from gateway.cli.up import DEFAULT_DATA_DIR, DataDir, Pair, Repository, lines_reporter, part_fields, stack_settings

if TYPE_CHECKING:
    from gateway.local.stack import StackSettings

# Packages of the standard library that hold much real code each, and that people know well enough to judge hits.
STDLIB_PACKAGES = ("asyncio", "concurrent", "http", "json", "urllib")
STDLIB_CODEBASE = "python-stdlib"
STDLIB_QUERIES = (
    "decode a JSON document",
    "wait until a queue has room for another item",
    "parse the query part of a URL",
)


def demo(
    code: Annotated[
        Path | None, typer.Argument(exists=True, help="Folder to index; by default packages of Python itself.")
    ] = None,
    query: Annotated[list[str] | None, typer.Option(help="What to search for; may be given several times.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Hits at most for each query.")] = 3,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    repository: Repository = None,
) -> None:
    """Start PostgreSQL, Triton and the gateway, index a folder, search it, and stop.

    What was indexed stays in the data directory: the next run starts where this one ended.

    Examples:

        duovec demo

        duovec demo ~/src/flask --query "where are cookies signed"
    """
    settings = stack_settings(data_dir, repository, "127.0.0.1:0", Pair.COMPACT)
    queries: Sequence[str]
    if code is None:
        code, codebase, queries = _stdlib(settings.data_dir / "demo"), STDLIB_CODEBASE, query or STDLIB_QUERIES
    else:
        codebase, queries = slug_of(code.resolve().name) or "demo", query or ("read a file and parse it",)
    asyncio.run(_run(settings, code, codebase, queries, limit))


def _stdlib(folder: Path) -> Path:
    """Some packages of the running Python side by side, as one small codebase."""
    source = Path(sysconfig.get_path("stdlib"))
    for package in STDLIB_PACKAGES:
        shutil.copytree(
            source / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
        )
    return folder


async def _run(settings: "StackSettings", code: Path, codebase: str, queries: Sequence[str], limit: int) -> None:
    from gateway.local.stack import Stack

    report, started_at = lines_reporter(), time.monotonic()
    async with Stack(
        settings, on_event=lambda event: report("part", part_fields(event, started_at=started_at))
    ) as stack:
        await asyncio.to_thread(index, code, codebase=codebase, endpoint=stack.endpoint, api_key=stack.api_key)
        for query in queries:
            typer.secho(f"\nsearch: {query}", bold=True)
            await asyncio.to_thread(
                search, query, codebase=[codebase], limit=limit, endpoint=stack.endpoint, api_key=stack.api_key
            )
