"""`duovec sync`: bring a codebase into line with the commit that is checked out."""

import json
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.failures import one_line_failures
from gateway.cli.index import codebase_of
from gateway.cli.index_report import IndexBar, print_report
from gateway.cli.options import DEFAULT_ENDPOINT, ApiKey, AsJson, Endpoint
from gateway.client.chunking import DEFAULT_MAX_CHARS
from gateway.client.client import Client
from gateway.client.sync import SyncReport, sync_tree


@one_line_failures
def sync(
    path: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Folder in the work tree of a git repository.")
    ] = Path(),
    codebase: Annotated[str | None, typer.Option(help="Codebase id; by default made of the folder's name.")] = None,
    uncommitted: Annotated[
        bool, typer.Option("--uncommitted", help="Take changes that are not committed, and new files, too.")
    ] = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
    max_chars: Annotated[int, typer.Option(min=100, help="Longest chunk, in characters.")] = DEFAULT_MAX_CHARS,
    as_json: AsJson = False,
) -> None:
    """Bring a codebase into line with the git commit that is checked out, and remember the commit.

    Only files that differ from the commit that the codebase holds are read and sent; a branch or a new name costs what
    differs. Where it is not known what the codebase holds, every file is compared, and the reason is printed. After an
    interruption it goes on where it stopped. Exits with 1 when a chunk failed, or a file could not be read.

    Examples:

        duovec sync

        duovec sync ~/src/linux --codebase linux

        duovec sync --uncommitted
    """
    codebase_id = codebase or codebase_of(path)
    with Client(endpoint, api_key=api_key) as client, IndexBar() as bar:
        report = sync_tree(client, path, codebase_id, uncommitted=uncommitted, max_chars=max_chars, progress=bar)
    if as_json:
        typer.echo(json.dumps(report.to_dict()))
    else:
        _print_sync(report)
    if not report.recorded:
        why = "chunks failed" if report.index.chunks_failed else "files could not be read"
        typer.echo(f"error: {report.commit_id[:10]} is not recorded, since {why}; sync again", err=True)
        raise typer.Exit(1)


def _print_sync(report: SyncReport) -> None:
    print_report(report.index)
    if report.compared_because:
        typer.echo(f"every file was compared: {report.compared_because}")
    if report.renamed_count:
        typer.echo(f"files with a new name: {report.renamed_count}")
    if report.uncommitted_count:
        typer.echo(f"paths with changes that are not committed: {report.uncommitted_count}")
    if report.recorded:
        since = "" if report.base_commit_id in {"", report.commit_id} else f", from {report.base_commit_id[:10]}"
        typer.echo(f"{report.index.codebase_id} holds {report.commit_id[:10]}{since}")
