"""The `duovec` command: one file a subcommand, and the one place where an error becomes an exit code."""

import importlib.metadata
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gateway.cli.audit import audit
from gateway.cli.demo import demo
from gateway.cli.doctor import doctor
from gateway.cli.embed import embed
from gateway.cli.feedback import feedback
from gateway.cli.grant import grant
from gateway.cli.health import health
from gateway.cli.index import index
from gateway.cli.key import key
from gateway.cli.mcp import mcp
from gateway.cli.principal import principal
from gateway.cli.quality import quality
from gateway.cli.search import search
from gateway.cli.space import space
from gateway.cli.status import status
from gateway.cli.sync import sync
from gateway.cli.tls import add_tls_options
from gateway.cli.training import training
from gateway.cli.tune import tune
from gateway.cli.up import up
from gateway.cli.watch import watch
from gateway.errors import DuovecError

FAILURE, INTERRUPTED = 1, 130  # wrong use is 2, which click sees to


class _Group(TyperGroup):
    """Ends a command with exit code 1 and one red line on stderr for an expected error; a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DuovecError as exc:
            headline, _, rest = str(exc).partition("\n")
            typer.secho(f"error: {headline}", fg=typer.colors.RED, err=True)
            if rest:
                typer.secho(rest, dim=True, err=True)
            raise typer.Exit(FAILURE) from exc
        except KeyboardInterrupt as exc:
            raise typer.Exit(INTERRUPTED) from exc


app = typer.Typer(
    cls=_Group,
    name="duovec",
    help="Code search by two encoders at once.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"duovec {importlib.metadata.version('duovec')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Code search by two encoders at once."""


_FOR_CALLERS: tuple[Callable[..., None], ...] = (index, sync, watch, search, mcp, feedback, quality, embed)
_FOR_OPERATORS: tuple[Callable[..., None], ...] = (up, demo, status, health, doctor, tune, audit)
for command in (*_FOR_CALLERS, *_FOR_OPERATORS):
    app.command()(command)
for name, group in (("principal", principal), ("key", key), ("grant", grant), ("space", space), ("training", training)):
    app.add_typer(group, name=name)
add_tls_options(app)
