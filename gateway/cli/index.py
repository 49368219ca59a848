"""`duovec index`: bring a codebase into line with a folder."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from gateway.cli.failures import one_line_failures
from gateway.cli.options import DEFAULT_ENDPOINT, ApiKey, AsJson, Endpoint
from gateway.cli.terminal import harmless
from gateway.client.chunking import DEFAULT_MAX_CHARS
from gateway.client.client import Client
from gateway.client.indexer import index_tree
from gateway.client.report import IndexReport


def slug_of(name: str) -> str:
    """Make a codebase id of a folder's name; empty where nothing of the name can be used."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].rstrip("-")


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

    Examples:

        duovec index .

        duovec index ~/src/linux --codebase linux
    """
    folder = path.resolve() if path.is_dir() else path.resolve().parent
    codebase_id = codebase or slug_of(folder.name)
    if not codebase_id:
        raise typer.BadParameter("the folder's name makes no codebase id; give one", param_hint="--codebase")
    with Client(endpoint, api_key=api_key) as client, _Bar() as bar:
        report = index_tree(client, path, codebase_id, max_chars=max_chars, progress=bar)
    if as_json:
        typer.echo(json.dumps(report.to_dict()))
    else:
        _print_report(report)
    if report.chunks_failed:
        raise typer.Exit(1)


class _ChunkRate(ProgressColumn):
    """Chunks a second since the start."""

    def render(self, task: Task) -> Text:
        chunk_count, elapsed_s = task.fields["chunk_count"], task.elapsed or 0.0
        return Text(f"{chunk_count / elapsed_s:.0f} chunks/s" if elapsed_s > 0 else "")


class _Bar:
    """A progress bar on stderr, so that stdout stays the result's."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("files"),
            _ChunkRate(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,  # it would leave an empty line before an error
        )
        self._task = self._bar.add_task("indexing", total=None, chunk_count=0)
        self._chunk_count = 0

    def __enter__(self) -> "_Bar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def files_found(self, count: int) -> None:
        self._bar.update(self._task, total=count)

    def file_done(self, path: str) -> None:
        self._bar.advance(self._task)

    def chunk_done(self) -> None:
        self._chunk_count += 1
        self._bar.update(self._task, chunk_count=self._chunk_count)


def _print_report(report: IndexReport) -> None:
    console = Console()
    table = Table(title=f"{report.codebase_id}{' (created)' if report.created else ''}", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    chunk_count = report.chunks_embedded + report.chunks_reused + report.chunks_unchanged
    for label, count in (
        ("files scanned", report.files_scanned),
        ("  unchanged", report.files_unchanged),
        ("  new or changed", report.files_changed),
        ("  incomplete", report.files_incomplete),
        ("  without chunks", report.files_without_chunks),
        ("files removed", report.files_removed),
        ("files skipped", report.skipped.total()),
        ("chunks stored", chunk_count),
        ("  embedded", report.chunks_embedded),
        ("  reused", report.chunks_reused),
        ("  there already", report.chunks_unchanged),
        ("  cut at a token limit", report.chunks_truncated),
        ("chunks failed", report.chunks_failed),
        ("chunks deleted", report.chunks_deleted),
    ):
        if count or not label.startswith(" "):
            table.add_row(label, f"{count:,}")
    table.add_row("time", f"{report.elapsed_s:.1f} s, {chunk_count / max(report.elapsed_s, 1e-9):.0f} chunks/s")
    console.print(table)
    for reason, count in report.skipped.most_common():
        examples = report.skipped_examples[reason]
        more = ", …" if count > len(examples) else ""
        console.print(f"skipped, {reason}: {count} ({escape(harmless(', '.join(examples)))}{more})", highlight=False)
    for failure in report.failures:
        where = f"{failure.path}:{failure.start_line}"
        typer.echo(harmless(f"failed: {where}: {failure.message} [{failure.code}]"), err=True)
