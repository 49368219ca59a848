"""`duovec tune`: how this machine runs both encoders fastest, measured."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from gateway.cli.options import AsJson
from gateway.cli.up import DEFAULT_DATA_DIR, DataDir, Pair, Repository, WhichPair, stack_settings

if TYPE_CHECKING:
    from gateway.local.tuning.choice import Measured
    from gateway.local.tuning.tuner import TuneRequest, TuneResult

_CHOSEN = "bold green"
_LEGEND = "idle: ms of a short text alone; p50, p95: beside bulk work, at `beside` chunks/s\n"


def tune(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    repository: Repository = None,
    pair: WhichPair = Pair.COMPACT,
    source: Annotated[
        Path | None,
        typer.Option(help="Code to measure with; Python's own library when not given.", show_default=False),
    ] = None,
    interactive_ms: Annotated[
        float,
        typer.Option(min=1, help="What a short text may take while bulk work runs, milliseconds, 95th percentile."),
    ] = 250.0,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long bulk work of each settings takes, about.")] = 5.0,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="Threads to try; may be given again. Else what the cores suggest.")
    ] = None,
    token_budget: Annotated[
        list[int] | None, typer.Option(min=1, help="Token budget of a micro-batch to try; may be given again.")
    ] = None,
    runtimes: Annotated[
        bool, typer.Option("--runtimes/--no-runtimes", help="Compare other runtimes and precisions, too.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure and print; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure threads, instances and micro-batches of both encoders on this machine, and keep the best.

    Of the settings by which a short text is answered in time while bulk work runs, those with the highest bulk rate are
    written into the model repository, for `duovec up`. They change no vector. Another runtime or precision makes
    another space, so that one is recommended only, with the command that publishes it. Takes some minutes, on a
    machine that has nothing else to do; `duovec up` must not run.

    Examples:

        duovec tune --data-dir .duovec

        duovec tune --source ~/projects/shop --interactive-ms 400

        duovec tune --dry-run --json | jq .chosen
    """
    from gateway.local.tuning.tuner import TuneRequest, write
    from gateway.local.tuning.tuner import tune as measure

    settings = stack_settings(data_dir, repository, "127.0.0.1:0", pair)
    request = TuneRequest(
        data_dir=settings.data_dir,
        repository=settings.repository,
        encoders=settings.encoders,
        source=source.expanduser() if source else None,
        interactive_ms=interactive_ms,
        seconds=seconds,
        threads=tuple(threads or ()),
        token_budgets=tuple(token_budget or ()),
        compare_runtimes=runtimes,
    )
    with _bar() as on_step:
        result = asyncio.run(measure(request, on_step=on_step))
    if not dry_run:
        write(request, result.choice.chosen.settings)
    if as_json:
        typer.echo(json.dumps(_document(request, result, pair, written=not dry_run)))
    else:
        _print(request, result, pair, written=not dry_run)


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr, so that stdout stays the result's."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("start", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def _document(request: "TuneRequest", result: "TuneResult", pair: Pair, *, written: bool) -> dict[str, Any]:
    return {
        "repository": str(request.repository),
        "encoders": list(request.encoders),
        "cores": result.cores,
        "load_before": result.load,
        "chunks": result.chunks,
        "tokens_per_chunk": result.tokens_per_chunk,
        "interactive_ms": request.interactive_ms,
        "bound_ms": result.choice.bound_ms,
        "bound_was_met": result.choice.bound_was_met,
        "before": asdict(result.current),
        "chosen": asdict(result.choice.chosen.settings),
        "written": written,
        "settings": [asdict(row) | {"sound": row.is_sound} for row in result.rows],
        "runtimes": [asdict(row.flavour) | asdict(row.measured) for row in result.flavours],
        "recommended": None if result.flavour is None else asdict(result.flavour),
        "recommended_command": _publish_command(request, result, pair),
    }


def _print(request: "TuneRequest", result: "TuneResult", pair: Pair, *, written: bool) -> None:
    from gateway.local.tuning.tuner import BUSY_LOAD, describe

    console = Console(highlight=False, soft_wrap=True)
    if result.load > BUSY_LOAD * result.cores:
        console.print(
            f"The machine was busy (load {result.load:.1f} on {result.cores} cores): measure again when it is not.",
            style="yellow",
        )
    choice = result.choice
    measured = [*result.rows, *(line.measured for line in result.flavours)]
    table = _table("instances", "threads", "tokens")
    for row in sorted(result.rows, key=lambda row: row.settings):
        one = row.settings
        note = "in use" if one == result.current else ""
        _add(table, row, [f"{one.instances}", f"{one.num_threads}", f"{one.token_budget}"], note, row == choice.chosen)
    console.print(table)
    if result.flavours:
        table = _table("runtime", "precision")
        for line in result.flavours:
            flavour = line.flavour
            note = "" if flavour.is_proven else "not proven"
            _add(table, line.measured, [flavour.runtime, flavour.precision], note, line is result.flavours[0])
        console.print(table)
    console.print(_LEGEND, style="bright_black")
    for row in measured:
        if row.problem:
            console.print(f"{describe(row.settings)}: {row.problem}", style="bright_black")
        elif not row.is_sound:
            console.print(
                f"{describe(row.settings)}: a vector moves by {row.moved:.1e} (cosine distance) among other rows, and "
                f"the gate of its version allows {row.may_move:.1e}",
                style="bright_black",
            )
    if not choice.bound_was_met:
        console.print(
            f"No settings answer a short text within {request.interactive_ms:.0f} ms beside bulk work; "
            f"those within {choice.bound_ms:.0f} ms counted, a quarter above the fastest.",
            style="yellow",
        )
    chosen = choice.chosen
    verb = "Written" if written else "Would be written"
    console.print(
        f"{verb}: {describe(chosen.settings)} a micro-batch: {chosen.chunks_per_s:.0f} chunks/s, and a short text in "
        f"{chosen.interactive_ms:.0f} ms beside them.",
        style=_CHOSEN,
    )
    if result.flavour is not None:
        console.print(
            f"{result.flavour.runtime} {result.flavour.precision} is faster still, and makes another space "
            "(README: Change the encoders of a running service):",
            style="yellow",
        )
        console.print(f"    {_publish_command(request, result, pair)}")


def _table(*names: str) -> Table:
    """No wider than a terminal of 80 columns; tokens a second are in the document alone."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("")
    for name in (*names, "chunks/s", "idle", "p50", "p95", "beside"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    return table


def _add(table: Table, row: "Measured", names: list[str], note: str, is_chosen: bool) -> None:
    if row.problem:
        table.add_row("", *names, *["–"] * 5, "failed", style="bright_black")
        return
    if not row.is_sound:
        note = "not sound"
    figures = (
        f"{row.chunks_per_s:.1f}",
        f"{row.idle_ms:.1f}",
        f"{row.interactive_p50_ms:.0f}",
        f"{row.interactive_ms:.0f}",
        f"{row.beside_chunks_per_s:.1f}",
    )
    table.add_row("→" if is_chosen else "", *names, *figures, note, style=_CHOSEN if is_chosen else None)


def _publish_command(request: "TuneRequest", result: "TuneResult", pair: Pair) -> str | None:
    if result.flavour is None:
        return None
    return (
        f"duovec-export publish --pair {pair} --runtime {result.flavour.runtime} "
        f"--precision {result.flavour.precision} --repository {request.repository}"
    )
