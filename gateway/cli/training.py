"""`duovec training`: runs that workers train, and schedules that queue them."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from duovec.v1 import training_service_pb2 as pb
from gateway.cli.documents import to_dict
from gateway.cli.failures import one_line_failures
from gateway.cli.options import DEFAULT_ENDPOINT, ApiKey, AsJson, Endpoint, when
from gateway.cli.terminal import harmless
from gateway.client.client import Client

training = typer.Typer(
    no_args_is_help=True,
    help="Training: start, list, get, cancel; schedule, schedules, unschedule. For administrators.",
)

Recipe = Annotated[Path, typer.Argument(help="Recipe, TOML.")]
Codebases = Annotated[
    list[str] | None, typer.Option("--codebase", help="Codebase that data may come from; all of them without it.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Instead of the recipe's.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N of the worker.")]
Precision = Annotated[str | None, typer.Option(help="fp32, bf16 or fp16 instead of the recipe's.")]
Publish = Annotated[bool, typer.Option("--publish", help="Publish the result if it is better than the live space.")]
RunId = Annotated[int, typer.Argument(help="Number of the run.")]
_STATES = {number: name.removeprefix("TRAINING_STATE_") for name, number in pb.TrainingState.items()}
_STAGES = {number: name.removeprefix("TRAINING_STAGE_").lower() for name, number in pb.TrainingStage.items()}


@training.command()
@one_line_failures
def start(
    recipe: Recipe,
    codebase: Codebases = None,
    seed: Seed = None,
    device: Device = "auto",
    precision: Precision = None,
    publish: Publish = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Queue a run; `duovec-train worker` processes work on it.

    Examples:

        duovec training start recipe.toml --codebase mine --publish
    """
    spec = _spec(recipe, codebase, seed, device, precision, publish)
    with Client(endpoint, api_key=api_key) as client:
        run = client.training.start(spec)
    typer.echo(
        json.dumps(_json(run)) if as_json else f"queued run {run.run_id}\nnext: duovec training get {run.run_id}"
    )


@training.command("list")
@one_line_failures
def list_all(endpoint: Endpoint = DEFAULT_ENDPOINT, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List the runs, newest first.

    Examples:

        duovec training list
    """
    with Client(endpoint, api_key=api_key) as client:
        runs = list(client.training.list())
    if as_json:
        typer.echo(json.dumps([_json(run) for run in runs]))
        return
    table = Table("run", "encoder", "state", "stage", "done", "asked by", "queued")
    for run in runs:
        table.add_row(
            str(run.run_id),
            run.encoder,
            _STATES[run.state] + (f" {run.error_reason}" if run.error_reason else ""),
            _STAGES[run.stage] if run.stage else "-",
            _done(run),
            run.principal_id,
            when(run.create_time),
        )
    Console().print(table)


@training.command()
@one_line_failures
def get(run_id: RunId, endpoint: Endpoint = DEFAULT_ENDPOINT, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show a run: how far it is, what came of it, or why it failed.

    Examples:

        duovec training get 7
    """
    with Client(endpoint, api_key=api_key) as client:
        run = client.training.get(run_id)
    if as_json:
        typer.echo(json.dumps(_json(run)))
        return
    typer.echo(f"run {run.run_id}, {run.encoder}: {_STATES[run.state]}, asked for by {run.principal_id}")
    if run.stage:
        typer.echo(f"stage {_STAGES[run.stage]}, {_done(run)}, attempt {run.attempt} on {harmless(run.worker)}")
    if run.HasField("loss"):
        typer.echo(f"loss {run.loss:.4f}, {run.tokens_per_second:.0f} tokens/s")
    if run.space:
        typer.echo(f"space {run.space}")
    if run.error:
        typer.echo(harmless(f"{run.error_reason}: {run.error}"))


@training.command()
@one_line_failures
def cancel(
    run_id: RunId, endpoint: Endpoint = DEFAULT_ENDPOINT, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """Cancel a run; what it had published and not activated is taken back.

    Examples:

        duovec training cancel 7
    """
    with Client(endpoint, api_key=api_key) as client:
        run = client.training.cancel(run_id)
    doing = "is cancelled" if run.state == pb.TRAINING_STATE_CANCELLED else "ends as soon as its worker sees it"
    typer.echo(json.dumps(_json(run)) if as_json else f"run {run.run_id} {doing}")


@training.command()
@one_line_failures
def schedule(
    recipe: Recipe,
    feedback: Annotated[int, typer.Option(min=1, help="New examples: useful hits of searches with a not useful one.")],
    codebase: Codebases = None,
    seed: Seed = None,
    device: Device = "auto",
    precision: Precision = None,
    publish: Publish = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Have a run queued whenever enough feedback has come; one at a time.

    Examples:

        duovec training schedule recipe.toml --feedback 500 --publish
    """
    spec = _spec(recipe, codebase, seed, device, precision, publish)
    with Client(endpoint, api_key=api_key) as client:
        made = client.training.create_schedule(spec, min_feedback_count=feedback)
    typer.echo(json.dumps(_json(made)) if as_json else f"made schedule {made.schedule_id}")


@training.command()
@one_line_failures
def schedules(endpoint: Endpoint = DEFAULT_ENDPOINT, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List the schedules.

    Examples:

        duovec training schedules
    """
    with Client(endpoint, api_key=api_key) as client:
        found = list(client.training.list_schedules())
    if as_json:
        typer.echo(json.dumps([_json(one) for one in found]))
        return
    table = Table("schedule", "encoder", "examples", "codebases", "publishes", "made by")
    for one in found:
        table.add_row(
            str(one.schedule_id),
            one.encoder,
            f"{one.min_feedback_count:,}",
            ", ".join(one.spec.codebase_ids) or "all",
            "yes" if one.spec.publish else "no",
            one.principal_id,
        )
    Console().print(table)


@training.command()
@one_line_failures
def unschedule(
    schedule_id: Annotated[int, typer.Argument(help="Number of the schedule.")],
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
) -> None:
    """Delete a schedule; its runs stay.

    Examples:

        duovec training unschedule 3
    """
    with Client(endpoint, api_key=api_key) as client:
        client.training.delete_schedule(schedule_id)
    typer.echo(f"schedule {schedule_id} is gone")


def _spec(
    recipe: Path, codebases: list[str] | None, seed: int | None, device: str, precision: str | None, publish: bool
) -> pb.TrainingSpec:
    chosen = f"TRAINING_PRECISION_{(precision or 'unspecified').upper()}"
    if chosen not in pb.TrainingPrecision.keys():  # noqa: SIM118 - an enum's wrapper is no dictionary
        raise typer.BadParameter("--precision must be fp32, bf16 or fp16")
    return pb.TrainingSpec(
        recipe=recipe.read_text(encoding="utf-8"),
        codebase_ids=codebases or [],
        seed=seed,
        device=device,
        precision=chosen,
        publish=publish,
    )


def _done(run: pb.TrainingRun) -> str:
    return f"{run.step:,} of {run.step_count:,}" if run.step_count else f"{run.step:,}"


def _json(message: pb.TrainingRun | pb.TrainingSchedule) -> dict[str, Any]:
    fields = to_dict(message)
    if isinstance(message, pb.TrainingRun):
        fields["state"], fields["stage"] = _STATES[message.state], _STAGES[message.stage]
    return fields
