"""The `duovec-export` command: its subcommands, and the one place where an error becomes an exit code."""

from typing import Any

import typer
from typer.core import TyperGroup

from export.cli.build import build
from export.cli.configure import configure
from export.cli.list_versions import list_versions
from export.cli.prune import prune
from export.cli.publish import publish
from export.cli.rollback import rollback
from export.cli.verify import verify
from export.errors import ExportError

FAILURE, INTERRUPTED = 1, 130  # wrong use is 2, which click sees to


class _Group(TyperGroup):
    """Ends a command with exit code 1 and one red line on stderr for an expected error; a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ExportError as exc:
            typer.secho(f"error: {' '.join(str(exc).split())}", fg=typer.colors.RED, err=True)
            raise typer.Exit(FAILURE) from exc
        except KeyboardInterrupt as exc:
            raise typer.Exit(INTERRUPTED) from exc


app = typer.Typer(
    cls=_Group,
    name="duovec-export",
    help="Publish encoders into a Triton model repository: proven, versioned, rolled back.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)

for command in (build, verify, publish, rollback, configure):
    app.command()(command)
app.command("list")(list_versions)
app.command()(prune)
