"""`duovec-train run`: from recipe and data to a checkpoint."""

import json
from pathlib import Path
from typing import Annotated

import typer


def run(
    recipe: Annotated[Path, typer.Argument(help="Recipe, TOML.")],
    data: Annotated[Path, typer.Option(help="Folder of a mined data set.")],
    output: Annotated[Path, typer.Option(help="Folder of the run; an interrupted run in it is taken up.")],
    base: Annotated[Path | None, typer.Option(help="Checkpoint to start from instead of the spec's source.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, for programs.")] = False,
) -> None:
    """Fine-tune an encoder; run it again to take an interrupted run up.

    Examples:

        duovec-train run training/recipes/compact-code.toml --data data --output runs/7

        torchrun --nproc-per-node 2 -m training run recipe.toml --data data --output runs/7

        duovec-export build --encoder compact-code --checkpoint runs/7/result --repository models
    """
    from training.run import RunRequest, train

    result = train(RunRequest(recipe, data, output, base, device), lambda note: typer.echo(f"note: {note}", err=True))
    if as_json:
        typer.echo(json.dumps({"result": str(result.resolve())}))
    else:
        typer.echo(f"trained; the checkpoint is {result}")
