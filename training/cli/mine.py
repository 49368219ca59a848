"""`duovec-train mine`: from source code to a data set."""

import json
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from training.data.unit import Unit

_stderr = Console(stderr=True)


def mine(
    output: Annotated[Path, typer.Option("--output", help="Folder for the set; a set that is there is replaced.")],
    source: Annotated[
        list[Path] | None,
        typer.Option("--source", help="Folder of source code; give several, so that packages can be held out."),
    ] = None,
    packages: Annotated[
        list[str] | None,
        typer.Option("--packages", help="Installed distribution; stdlib for Python's own library, all for every one."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of every choice, also of the packages that are held out.")] = 0,
    hold_out: Annotated[
        list[str] | None, typer.Option("--hold-out", help="Package that is for the test, whatever its hash.")
    ] = None,
    package_cap: Annotated[int, typer.Option(min=1, help="Most examples of one package.")] = 2000,
    negatives: Annotated[int, typer.Option(min=0, max=20, help="Hard negatives an example, at most.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as one JSON document on stdout.")] = False,
) -> None:
    """Make a data set of (query, code) examples with hard negatives from real code.

    Queries are docstrings, comments, names of tests, notes on changes, names of symbols, and calls; their text is cut
    out of the code that answers them. Packages are held out whole. Fewer than 100 examples to train on: exit code 1.

    Examples:

        duovec-train mine --source ~/projects --output data/projects

        duovec-train mine --packages stdlib --packages rich --hold-out rich --output data/library --json
    """
    if not source and not packages:
        raise typer.BadParameter("give --source or --packages: it says what to read")
    from training.data.card import make_card, make_readme
    from training.data.mining import MiningSettings
    from training.data.mining import mine as mine_units
    from training.data.parquet import require_replaceable, write_set
    from training.data.sources import list_sources, read_units

    output = output.absolute()
    require_replaceable(output)
    settings = MiningSettings(seed, package_cap, negatives, tuple(sorted(hold_out or [])))
    counts = Counter[str]()
    with progress() as report:
        listings = list_sources(source or [], packages or [])
        units: list[Unit] = []
        for number, listing in enumerate(listings):
            report(f"reading {listing.origin.name}", number, len(listings))
            units += read_units(listing, counts)
        mined = mine_units(units, settings, counts=counts, report=report)
        report("writing", 0, 1)
        card = make_card(mined, settings, [listing.origin for listing in listings])
        write_set(output, mined.examples, card, make_readme(card, _command(output)))
    if as_json:
        typer.echo(json.dumps({"output": str(output), **card}, indent=2, ensure_ascii=False))
        return
    _show(card, output)


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show how far each stage is: a bar on a terminal, one line a stage elsewhere."""
    if not _stderr.is_terminal:
        shown = ""

        def log(stage: str, done: int, total: int) -> None:
            nonlocal shown
            if (name := stage.partition(" ")[0]) != shown:
                shown = name
                typer.echo(stage, err=True)

        yield log
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_stderr, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total)


def _command(output: Path) -> str:
    """The command as it was typed, without where it wrote to: a set must not depend on that."""
    return shlex.join(["duovec-train", *sys.argv[1:]]).replace(str(output), output.name)


def _show(card: dict[str, Any], output: Path) -> None:
    counts = ", ".join(f"{count:,} {split}" for split, count in card["examples"].items())
    typer.echo(f"{output}: {counts}; sha256 {card['sha256'][:16]}…")
    for warning in card["warnings"]:
        typer.echo(f"note: {warning}", err=True)
