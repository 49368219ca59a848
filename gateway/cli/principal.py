"""`duovec principal`: who may hold API keys."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from duovec.v1 import principal_service_pb2 as pb
from gateway.cli.failures import one_line_failures
from gateway.cli.options import DEFAULT_ENDPOINT, ApiKey, AsJson, Endpoint, when
from gateway.cli.terminal import harmless
from gateway.client.client import Client

principal = typer.Typer(no_args_is_help=True, help="People and programs that may hold API keys.")

PrincipalId = Annotated[str, typer.Argument(help="1 to 63 of a-z, 0-9 and '-'.")]


@principal.command()
@one_line_failures
def create(
    principal_id: PrincipalId,
    name: Annotated[str, typer.Option(help="What people read; the id when not given.", show_default=False)] = "",
    admin: Annotated[bool, typer.Option("--admin", help="May do everything, on every codebase.")] = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Create a principal; administrators only.

    Examples:

        duovec principal create alice

        duovec principal create ci --name "builds" --json
    """
    with Client(endpoint, api_key=api_key) as client:
        created = client.access.create_principal(principal_id, display_name=name, admin=admin)
    if as_json:
        typer.echo(json.dumps(_to_dict(created)))
    else:
        typer.echo(f"created {created.principal_id}; make a key with `duovec key create {created.principal_id}`")


@principal.command("list")
@one_line_failures
def list_all(endpoint: Endpoint = DEFAULT_ENDPOINT, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List the principals that you may see: all for an administrator.

    Examples:

        duovec principal list

        duovec principal list --json
    """
    with Client(endpoint, api_key=api_key) as client:
        rows = list(client.access.list_principals())
    if as_json:
        typer.echo(json.dumps({"principals": [_to_dict(row) for row in rows]}))
        return
    table = Table("principal", "name", "administrator", "created")
    for row in rows:
        table.add_row(row.principal_id, harmless(row.display_name), "yes" if row.admin else "", when(row.create_time))
    Console().print(table, markup=False)


@principal.command()
@one_line_failures
def delete(principal_id: PrincipalId, endpoint: Endpoint = DEFAULT_ENDPOINT, api_key: ApiKey = None) -> None:
    """Delete a principal with its keys and grants; its codebases stay. Administrators only.

    Examples:

        duovec principal delete alice
    """
    with Client(endpoint, api_key=api_key) as client:
        client.access.delete_principal(principal_id)
    typer.echo(f"deleted {principal_id}")


def _to_dict(row: pb.Principal) -> dict[str, object]:
    return {
        "principal_id": row.principal_id,
        "display_name": row.display_name,
        "admin": row.admin,
        "create_time": row.create_time.ToJsonString(),
    }
