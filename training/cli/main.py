"""The `duovec-train` command: its subcommands, and the one place where an error becomes an exit code."""

from typing import Any

import typer
from typer.core import TyperGroup

from export.errors import ExportError
from training.cli.evaluate import evaluate
from training.cli.mine import mine
from training.cli.publish import publish
from training.cli.run import run
from training.cli.worker import worker
from training.errors import TrainingError

FAILURE, INTERRUPTED = 1, 130  # wrong use is 2, which click sees to


class _Group(TyperGroup):
    """Ends a command with exit code 1 and one red line on stderr for an expected error; a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (TrainingError, ExportError) as exc:
            typer.secho(f"error: {' '.join(str(exc).split())}", fg=typer.colors.RED, err=True)
            raise typer.Exit(FAILURE) from exc
        except KeyboardInterrupt as exc:
            raise typer.Exit(INTERRUPTED) from exc


app = typer.Typer(
    cls=_Group,
    name="duovec-train",
    help="Fine-tune the encoders on real code, and prove that they got better.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)


app.command()(mine)
app.command()(run)
app.command()(evaluate)
app.command()(publish)
app.command()(worker)
