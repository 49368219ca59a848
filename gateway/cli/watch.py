"""`duovec watch`: keep a codebase in line with a folder while one works in it."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.failures import one_line_failures
from gateway.cli.index import codebase_of
from gateway.cli.options import DEFAULT_ENDPOINT, ApiKey, Endpoint
from gateway.cli.terminal import harmless
from gateway.client.chunking import DEFAULT_MAX_CHARS
from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.client.report import IndexReport


@one_line_failures
def watch(
    path: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder to watch.")] = Path(),
    codebase: Annotated[str | None, typer.Option(help="Codebase id; by default made of the folder's name.")] = None,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
    max_chars: Annotated[int, typer.Option(min=100, help="Longest chunk, in characters.")] = DEFAULT_MAX_CHARS,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document a line, one for each update.")] = False,
) -> None:
    """Index a folder, and then whatever changes in it, until Ctrl-C.

    Files are taken by the rules of `duovec index`. While the service is away it waits; when it is back nothing was
    missed.

    Examples:

        duovec watch

        duovec watch ~/src/linux --codebase linux
    """
    # What watches files is loaded by no other command.
    from gateway.client.watch import watch_tree

    codebase_id = codebase or codebase_of(path)

    def on_report(report: IndexReport) -> None:
        typer.echo(json.dumps(report.to_dict()) if as_json else _line(report))
        for failure in report.failures:
            typer.echo(harmless(f"failed: {failure.path}:{failure.start_line}: {failure.message}"), err=True)

    def on_away(error: ClientError, delay_s: float) -> None:
        typer.echo(harmless(f"{_now()} {error}; asked again in {delay_s:.0f} s"), err=True)

    def on_doubt(reason: str) -> None:
        typer.echo(harmless(f"{_now()} {reason}; every file is compared"), err=True)

    typer.echo(harmless(f"watching {path.resolve()} as {codebase_id}, until Ctrl-C"), err=True)
    with Client(endpoint, api_key=api_key) as client, _interruption() as stop:
        # How a watch ends; what it was about is taken up by the next one.
        with suppress(KeyboardInterrupt):
            watch_tree(
                client,
                path,
                codebase_id,
                on_report=on_report,
                on_away=on_away,
                on_doubt=on_doubt,
                max_chars=max_chars,
                stop=stop,
            )
        typer.echo("stopped", err=True)


@contextmanager
def _interruption() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, beside the KeyboardInterrupt, which is lost where it comes into a destructor."""
    stop = threading.Event()

    def interrupt(*_: object) -> None:
        stop.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _now() -> str:
    return time.strftime("%H:%M:%S")


def _line(report: IndexReport) -> str:
    counts = (
        (report.files_changed, "files stored"),
        (report.files_unchanged, "unchanged"),
        (report.files_removed, "removed"),
        (report.files_incomplete, "incomplete"),
        (report.chunks_embedded, "chunks embedded"),
        (report.chunks_reused, "reused"),
    )
    told = ", ".join(f"{count} {label}" for count, label in counts if count) or "nothing to do"
    return f"{_now()} {told} ({report.elapsed_s:.1f} s)"
