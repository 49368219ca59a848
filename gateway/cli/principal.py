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
    table = Table("principal", "name", "administrator", "created", "calls/s", "tokens/min")
    for row in rows:
        admin = "yes" if row.admin else ""
        table.add_row(row.principal_id, harmless(row.display_name), admin, when(row.create_time), *_limits(row))
    Console().print(table, markup=False)


@principal.command()
@one_line_failures
def limit(
    principal_id: PrincipalId,
    requests_per_s: Annotated[
        float | None, typer.Option(min=0, max=1e6, help="Calls a second; 0 for no limit.", show_default=False)
    ] = None,
    tokens_per_minute: Annotated[
        int | None,
        typer.Option(min=0, max=10**12, help="Tokens of both encoders a minute; 0 for no limit.", show_default=False),
    ] = None,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Limit what a principal may ask for; administrators only. What is not given is the service's default from now on.

    Examples:

        duovec principal limit ci --requests-per-s 20 --tokens-per-minute 200000

        duovec principal limit ci
    """
    with Client(endpoint, api_key=api_key) as client:
        limited = client.access.set_quota(
            principal_id, requests_per_s=requests_per_s, tokens_per_minute=tokens_per_minute
        )
    if as_json:
        typer.echo(json.dumps(_to_dict(limited)))
    else:
        requests, tokens = _limits(limited)
        typer.echo(f"{limited.principal_id}: calls a second: {requests}; tokens a minute: {tokens}")


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


def _limits(row: pb.Principal) -> tuple[str, str]:
    """The two limits in words: calls a second, tokens a minute."""

    def shown(name: str) -> str:
        if not row.quota.HasField(name):
            return "default"
        value = getattr(row.quota, name)
        if value == 0:
            return "no limit"
        return f"{value:,}" if isinstance(value, int) else f"{value:,g}"

    return shown("requests_per_s"), shown("tokens_per_minute")


def _to_dict(row: pb.Principal) -> dict[str, object]:
    return {
        "principal_id": row.principal_id,
        "display_name": row.display_name,
        "admin": row.admin,
        "create_time": row.create_time.ToJsonString(),
        "requests_per_s": row.quota.requests_per_s if row.quota.HasField("requests_per_s") else None,
        "tokens_per_minute": row.quota.tokens_per_minute if row.quota.HasField("tokens_per_minute") else None,
    }
