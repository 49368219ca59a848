"""`duovec-train mine`: from source code to a data set."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from training.data.mining import MinedSet, MiningSettings, Report
    from training.data.negatives import PoolSource
    from training.data.sources import Origin
    from training.data.stored import StoredCode

_stderr = Console(stderr=True)


def mine(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", help="Folder for the set; a set that is there is replaced.")],
    source: Annotated[
        list[Path] | None,
        typer.Option("--source", help="Folder of source code. Each topmost folder in it that holds code is a package."),
    ] = None,
    packages: Annotated[
        list[str] | None,
        typer.Option("--packages", help="Installed distribution; stdlib for Python's own library, all for every one."),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            "--database-url",
            envvar="DUOVEC_DATABASE_URL",
            show_envvar=True,
            help="Database of a gateway: read what it stores instead of files.",
        ),
    ] = None,
    codebase: Annotated[
        list[str] | None, typer.Option("--codebase", help="Codebase in the database; all of them without it.")
    ] = None,
    principal: Annotated[
        str | None, typer.Option("--principal", help="Read only what this principal may, and only its own feedback.")
    ] = None,
    by_codebase: Annotated[
        bool, typer.Option("--by-codebase", help="Hold out whole codebases rather than packages in them.")
    ] = False,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="Built-in encoder that finds hard negatives, such as compact-code.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Fine-tuned weights of that encoder, instead of its own.")
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

    Queries are docstrings, comments, names of tests, notes on changes, commits, names of symbols, calls, and searches
    whose hits somebody judged; their text is cut out of the code that answers them. Packages are held out whole. Fewer
    than 100 examples to train on: exit code 1.

    Examples:

        duovec-train mine --source ~/projects --output data/projects

        duovec-train mine --packages stdlib --packages rich --hold-out rich --output data/library --json

        duovec-train mine --database-url postgresql://... --codebase mine --codebase other --output data/stored
    """
    if source or packages:
        url_from = context.get_parameter_source("database_url")
        # From the environment it is there for every command, and no contradiction.
        if (url_from is not None and url_from.name == "COMMANDLINE") or codebase or principal or by_codebase:
            raise typer.BadParameter(
                "--database-url, --codebase, --principal and --by-codebase read a database, --source and --packages "
                "read files: give the ones or the others"
            )
        database_url = None
    elif database_url is None:
        raise typer.BadParameter("give --source, --packages or --database-url: it says what to read")
    if checkpoint is not None and encoder is None:
        raise typer.BadParameter("--checkpoint needs --encoder: it says what the weights are of")
    from training.data.card import make_card, make_readme
    from training.data.mining import MiningSettings
    from training.data.parquet import require_replaceable, write_set

    output = output.absolute()
    require_replaceable(output)
    settings = MiningSettings(seed, package_cap, negatives, tuple(sorted(hold_out or [])))
    with progress() as report:
        pools = _pools(database_url, encoder, checkpoint, report)
        if database_url is None:
            mined, origins = _mine_files(source or [], packages or [], settings, pools, report)
        else:
            mined, origins = _mine_stored(database_url, codebase or [], principal, by_codebase, settings, pools, report)
        report("writing", 0, 1)
        card = make_card(mined, settings, origins, negatives_by=_negatives_by(database_url, encoder, checkpoint))
        write_set(output, mined.examples, card, make_readme(card))
    if as_json:
        typer.echo(json.dumps({"output": str(output), **card}, indent=2, ensure_ascii=False))
        return
    counts = ", ".join(f"{count:,} {split}" for split, count in card["examples"].items())
    typer.echo(f"{output}: {counts}; sha256 {card['sha256'][:16]}…")
    for warning in card["warnings"]:
        typer.echo(f"note: {warning}", err=True)


def _mine_files(
    source: Sequence[Path],
    packages: Sequence[str],
    settings: "MiningSettings",
    pools: "Sequence[PoolSource]",
    report: "Report",
) -> "tuple[MinedSet, list[Origin]]":
    from training.data.history import history_queries
    from training.data.mining import mine as mine_units
    from training.data.sources import list_sources, read_units

    counts = Counter[str]()
    listings = list_sources(source, packages)
    units = []
    extra = {}
    for number, listing in enumerate(listings):
        report(f"reading {listing.origin.name}", number, len(listings))
        own = list(read_units(listing, counts))
        extra.update(history_queries(listing, own, counts))
        units += own
    mined = mine_units(units, settings, pools=pools, counts=counts, report=report, extra=extra)
    return mined, [listing.origin for listing in listings]


def _mine_stored(
    url: str,
    codebases: Sequence[str],
    principal: str | None,
    by_codebase: bool,
    settings: "MiningSettings",
    pools: "Sequence[PoolSource]",
    report: "Report",
) -> "tuple[MinedSet, list[Origin]]":
    from training.data.mining import mine as mine_units
    from training.data.stored import read_stored

    counts = Counter[str]()
    report("reading the database", 0, 1)
    stored: StoredCode = asyncio.run(
        read_stored(url, codebases, principal=principal, by_codebase=by_codebase, counts=counts)
    )
    mined = mine_units(stored.units, settings, pools=pools, counts=counts, report=report, extra=stored.feedback)
    return mined, stored.origins


def _pools(url: str | None, encoder: str | None, checkpoint: Path | None, report: "Report") -> "list[PoolSource]":
    """Where hard negatives come from: an encoder that is trusted, the live index, and words, in this order."""
    from training.data.negatives import lexical_pools
    from training.data.neighbours import encoder_pools, stored_pools

    def on_progress(done: int, total: int) -> None:
        report("hard negatives", done, total)

    found: list[PoolSource] = []
    if encoder is not None:
        from export.spec import load_builtin
        from training.evaluation.encoding import TextEncoder

        found.append(encoder_pools(TextEncoder(load_builtin(encoder), checkpoint), on_progress))
    if url is not None:
        found.append(stored_pools(url, on_progress))
    return [*found, lexical_pools]


def _negatives_by(url: str | None, encoder: str | None, checkpoint: Path | None) -> list[str]:
    by_encoder = f"{encoder} ({checkpoint.name})" if checkpoint else encoder
    return [one for one in (by_encoder, "stored vectors" if url else None, "words") if one]


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
