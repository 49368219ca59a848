"""`duovec space`: which encoders made the vectors that are searched, and changing to others without a pause."""

import json
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from duovec.v1 import space_service_pb2 as pb
from gateway.cli.documents import to_dict
from gateway.cli.failures import one_line_failures
from gateway.cli.options import DEFAULT_ENDPOINT, ApiKey, AsJson, Endpoint
from gateway.cli.terminal import harmless
from gateway.client.client import Client

space = typer.Typer(
    no_args_is_help=True,
    help="Spaces: list, build, reembed, activate, rollback, drop. For administrators.",
)

SpaceName = Annotated[str, typer.Argument(help="Fingerprint of the space, or its first 8 or more digits.")]
_STATES = {value: name.removeprefix("SPACE_STATE_") for name, value in pb.SpaceState.items()}
_SHOWN_DIGITS = 12
_POLL_S = 1.0


@space.command("list")
@one_line_failures
def list_all(endpoint: Endpoint = DEFAULT_ENDPOINT, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List the spaces: their encoders, how many chunks have a vector, and what verifying them found.

    Examples:

        duovec space list
        duovec space list --json
    """
    with Client(endpoint, api_key=api_key) as client:
        response = client.spaces.list()
    if as_json:
        typer.echo(
            json.dumps({"spaces": [_json(row) for row in response.spaces], "served_space": response.served_space})
        )
        return
    table = Table("space", "state", "encoders", "chunks", "verified")
    for row in response.spaces:
        covered = row.chunk_count - row.pending_chunk_count
        table.add_row(
            row.fingerprint[:_SHOWN_DIGITS],
            _STATES[row.state],
            f"{_encoder(row.code_encoder)}\n{_encoder(row.text_encoder)}",
            f"{covered:,} of {row.chunk_count:,}",
            _verified(row),
        )
    console = Console()
    console.print(table)
    for row in response.spaces:
        for line in (*row.verification.notices, *([row.error] if row.error else [])):
            typer.echo(harmless(f"{row.fingerprint[:_SHOWN_DIGITS]}: {line}"))
    if response.served_space and response.served_space not in {row.fingerprint for row in response.spaces}:
        typer.echo(
            f"The served encoders make another space, {response.served_space[:_SHOWN_DIGITS]}: `duovec space build` "
            "begins the change to it."
        )


@space.command()
@one_line_failures
def build(
    code_version: Annotated[int, typer.Option(help="Version of the code encoder; 0 for the served one.", min=0)] = 0,
    text_version: Annotated[int, typer.Option(help="Version of the text encoder; 0 for the served one.", min=0)] = 0,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Make a space of two published versions, beside the active one. It has no vectors yet.

    Examples:

        duovec space build
        duovec space build --code-version 3
    """
    with Client(endpoint, api_key=api_key) as client:
        row = client.spaces.build(code_version=code_version, text_version=text_version)
    if as_json:
        typer.echo(json.dumps(_json(row)))
        return
    typer.echo(f"built space {row.fingerprint}\nnext: duovec space reembed {row.fingerprint[:_SHOWN_DIGITS]}")


@space.command()
@one_line_failures
def reembed(
    name: SpaceName,
    rate: Annotated[
        float, typer.Option(help="Chunks a second at most; 0 for as many as the encoders take beside queries.", min=0)
    ] = 0.0,
    stop: Annotated[bool, typer.Option("--stop", help="Stop; a later call goes on where it was.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Show the progress until it is verified.")] = True,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Embed every stored chunk in a space, and verify it. Searches and indexing go on meanwhile.

    The service does it, whether this command waits or not, and goes on after a restart.

    Examples:

        duovec space reembed 4c1f09aa
        duovec space reembed 4c1f09aa --rate 50 --no-wait
        duovec space reembed 4c1f09aa --stop
    """
    with Client(endpoint, api_key=api_key) as client:
        row = client.spaces.reembed(name, max_chunks_per_second=rate, stop=stop)
        if wait and not stop:
            row = _wait(client, row, quiet=as_json)
    if as_json:
        typer.echo(json.dumps(_json(row)))
    elif stop or (wait and not row.reembedding):
        typer.echo(f"stopped, {row.pending_chunk_count:,} of {row.chunk_count:,} chunks have no vector yet")
    elif row.HasField("verification"):
        for fault in row.verification.faults:
            typer.echo(f"error: {fault}", err=True)
        for notice in row.verification.notices:
            typer.echo(f"note: {notice}", err=True)
        if row.verification.passed:
            typer.echo(f"{_findings(row.verification)}\nnext: duovec space activate {row.fingerprint[:_SHOWN_DIGITS]}")
    elif wait:
        typer.echo(f"space {row.fingerprint} was active before, and can be again: every chunk has its vector")
    if row.HasField("verification") and not row.verification.passed:
        raise typer.Exit(1)


@space.command()
@one_line_failures
def activate(
    name: SpaceName, endpoint: Endpoint = DEFAULT_ENDPOINT, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """Have a verified space searched and written to. The former one stays filled, for a roll-back.

    Examples:

        duovec space activate 4c1f09aa
    """
    with Client(endpoint, api_key=api_key) as client:
        row = client.spaces.activate(name)
    typer.echo(json.dumps(_json(row)) if as_json else f"space {row.fingerprint} is the active one")


@space.command()
@one_line_failures
def rollback(endpoint: Endpoint = DEFAULT_ENDPOINT, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Activate the space that was active before.

    Examples:

        duovec space rollback
    """
    with Client(endpoint, api_key=api_key) as client:
        row = client.spaces.roll_back()
    typer.echo(json.dumps(_json(row)) if as_json else f"space {row.fingerprint} is the active one again")


@space.command()
@one_line_failures
def drop(
    name: SpaceName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
) -> None:
    """Delete a space with all its vectors. The active one is refused.

    Examples:

        duovec space drop 4c1f09aa --yes
    """
    with Client(endpoint, api_key=api_key) as client:
        row = client.spaces.get(name)
        covered = row.chunk_count - row.pending_chunk_count
        if not yes:
            typer.confirm(f"Delete space {row.fingerprint[:_SHOWN_DIGITS]} with {covered:,} vectors?", abort=True)
        client.spaces.drop(row.fingerprint)
    typer.echo(f"space {row.fingerprint} is gone, with {covered:,} vectors")


def _wait(client: Client, row: pb.Space, *, quiet: bool) -> pb.Space:
    """Show the progress until the space is verified, or somebody stops it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        task = progress.add_task("embedding", total=None)
        while row.reembedding and not row.HasField("verification") and not _is_kept_complete(row):
            progress.update(
                task,
                total=row.chunk_count,
                completed=row.chunk_count - row.pending_chunk_count,
                description=_doing(row),
            )
            time.sleep(_POLL_S)
            row = client.spaces.get(row.fingerprint)
        progress.update(task, total=row.chunk_count, completed=row.chunk_count - row.pending_chunk_count)
    return row


def _is_kept_complete(row: pb.Space) -> bool:
    """What was active is kept filled, and not verified again."""
    return row.state == pb.SPACE_STATE_STANDBY and not row.pending_chunk_count


def _doing(row: pb.Space) -> str:
    if row.error:
        return harmless(f"waiting: {row.error}")
    return "embedding" if row.pending_chunk_count else "verifying"


def _findings(found: pb.SpaceVerification) -> str:
    parts = [f"{found.recomputed_count} vectors embedded again, least cosine {found.min_cosine:.5f}"]
    if found.HasField("mean_recall"):
        parts.append(f"recall@10 of its index {found.mean_recall:.3f}")
    if found.question_count:
        parts.append(f"MRR@10 {found.mrr:.3f}, of the active space {found.active_mrr:.3f}")
    return "verified: " + "; ".join(parts)


def _verified(row: pb.Space) -> str:
    if not row.HasField("verification"):
        return "-"
    return "yes" if row.verification.passed else "; ".join(row.verification.faults)


def _encoder(encoder: pb.SpaceEncoder) -> str:
    version = f"/{encoder.version}" if encoder.version else ", not loaded"
    return f"{encoder.name}{version} {encoder.precision}"


def _json(row: pb.Space) -> dict[str, Any]:
    return to_dict(row) | {"state": _STATES[row.state]}
