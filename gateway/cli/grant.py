"""`duovec grant`: who may do what with a codebase."""

import enum
import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from duovec.v1 import codebase_service_pb2 as pb
from gateway.cli.failures import one_line_failures
from gateway.cli.options import DEFAULT_ENDPOINT, ApiKey, AsJson, Endpoint, when
from gateway.client.client import Client

grant = typer.Typer(no_args_is_help=True, help="Roles on a codebase: add, remove, list. For its owners.")


class Role(enum.StrEnum):
    """Each allows what those before it do."""

    READ = "read"
    WRITE = "write"
    OWNER = "owner"


Codebase = Annotated[str, typer.Argument(help="Codebase id.")]
PrincipalId = Annotated[str, typer.Argument(help="Who.")]


@grant.command()
@one_line_failures
def add(
    codebase: Codebase,
    principal_id: PrincipalId,
    role: Annotated[Role, typer.Argument(help="read, write, or owner.")],
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
) -> None:
    """Give a principal a role on a codebase, in place of the one that it had.

    Examples:

        duovec grant add linux alice read
    """
    with Client(endpoint, api_key=api_key) as client:
        client.access.set_grant(codebase, principal_id, role.value)
    typer.echo(f"{principal_id} has {role.value} on {codebase}")


@grant.command()
@one_line_failures
def remove(
    codebase: Codebase, principal_id: PrincipalId, endpoint: Endpoint = DEFAULT_ENDPOINT, api_key: ApiKey = None
) -> None:
    """Take a principal's role on a codebase away, from its next request on.

    Examples:

        duovec grant remove linux alice
    """
    with Client(endpoint, api_key=api_key) as client:
        client.access.delete_grant(codebase, principal_id)
    typer.echo(f"{principal_id} has no role on {codebase} any more")


@grant.command("list")
@one_line_failures
def list_all(
    codebase: Codebase, endpoint: Endpoint = DEFAULT_ENDPOINT, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """List who has which role on a codebase.

    Examples:

        duovec grant list linux

        duovec grant list linux --json
    """
    with Client(endpoint, api_key=api_key) as client:
        rows = list(client.access.list_grants(codebase))
    if as_json:
        typer.echo(json.dumps({"grants": [_to_dict(row) for row in rows]}))
        return
    table = Table("principal", "role", "since")
    for row in rows:
        table.add_row(row.principal_id, _role(row), when(row.create_time))
    Console().print(table, markup=False)


def _role(row: pb.Grant) -> str:
    return pb.Role.Name(row.role).removeprefix("ROLE_").lower()


def _to_dict(row: pb.Grant) -> dict[str, object]:
    return {
        "codebase_id": row.codebase_id,
        "principal_id": row.principal_id,
        "role": _role(row),
        "create_time": row.create_time.ToJsonString(),
    }
