"""What an indexer shows while it runs, and when it is done."""

from typing import Self

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

from gateway.cli.terminal import harmless
from gateway.client.errors import ClientError
from gateway.client.report import IndexReport


class _ChunkRate(ProgressColumn):
    """Chunks a second since the start."""

    def render(self, task: Task) -> Text:
        chunk_count, elapsed_s = task.fields["chunk_count"], task.elapsed or 0.0
        return Text(f"{chunk_count / elapsed_s:.0f} chunks/s" if elapsed_s > 0 else "")


class IndexBar:
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

    def __enter__(self) -> Self:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take it away."""
        self._bar.stop()

    def files_found(self, count: int) -> None:
        """Say how many files there are."""
        self._bar.update(self._task, total=count)

    def file_done(self, path: str) -> None:
        """Go on by one file."""
        self._bar.advance(self._task)

    def chunk_done(self) -> None:
        """Count a chunk."""
        self._chunk_count += 1
        self._bar.update(self._task, description="indexing", chunk_count=self._chunk_count)

    def waiting(self, refusal: ClientError, seconds: float) -> None:
        """Say why nothing goes on; what takes less than a second needs no saying."""
        if seconds >= 1:
            why = escape(harmless(refusal.reason or refusal.code.name))
            self._bar.update(self._task, description=f"waiting: {why}")


def print_report(report: IndexReport) -> None:
    """Print what a run did, as a table, with what was skipped and what failed."""
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
