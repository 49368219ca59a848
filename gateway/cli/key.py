"""`duovec key`: API keys."""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from duovec.v1 import principal_service_pb2 as pb
from gateway.cli.failures import one_line_failures
from gateway.cli.options import DEFAULT_ENDPOINT, ApiKey, AsJson, Endpoint, when
from gateway.cli.terminal import harmless
from gateway.client.client import Client

key = typer.Typer(no_args_is_help=True, help="API keys: make, list, rotate, revoke.")

OptionalPrincipal = Annotated[str, typer.Argument(help="Whose; your own when not given.", show_default=False)]
KeyId = Annotated[str, typer.Argument(help="The 12 characters after `duovec_`, as `duovec key list` shows them.")]
ExpireDays = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        max=36500,
        help="Days until it ends; never by default. A key of your own ends with the calling one at the latest.",
    ),
]
RotatedExpireDays = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        max=36500,
        help="Days until it ends; by default when the old one would have. A key of your own ends with the calling one "
        "at the latest.",
    ),
]


@key.command()
@one_line_failures
def create(
    principal_id: OptionalPrincipal = "",
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    expire_days: ExpireDays = None,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key and print it; it is not shown again.

    Examples:

        duovec key create alice --name laptop

        DUOVEC_API_KEY=$(duovec key create ci --expire-days 30) duovec index .
    """
    with Client(endpoint, api_key=api_key) as client:
        response = client.access.create_api_key(principal_id, display_name=name, expire_time=_expire_time(expire_days))
    _print_key(response, as_json=as_json)


@key.command("list")
@one_line_failures
def list_all(
    principal_id: OptionalPrincipal = "",
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """List the API keys of a principal, without their secrets.

    Examples:

        duovec key list

        duovec key list alice --json
    """
    with Client(endpoint, api_key=api_key) as client:
        rows = list(client.access.list_api_keys(principal_id))
    if as_json:
        typer.echo(json.dumps({"api_keys": [_to_dict(row) for row in rows]}))
        return
    table = Table("key", "principal", "name", "created", "expires", "revoked")
    for row in rows:
        times = (
            when(getattr(row, field)) if row.HasField(field) else ""
            for field in ("create_time", "expire_time", "revoke_time")
        )
        table.add_row(row.key_id, row.principal_id, harmless(row.display_name), *times)
    Console().print(table, markup=False)


@key.command()
@one_line_failures
def rotate(
    key_id: KeyId,
    keep_hours: Annotated[float, typer.Option(min=0, max=720, help="How long the old key still works, hours.")] = 0,
    expire_days: RotatedExpireDays = None,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Make a key in place of another, print it, and end the old one.

    Examples:

        duovec key rotate 4fz81k0qm2xa --keep-hours 24
    """
    with Client(endpoint, api_key=api_key) as client:
        response = client.access.rotate_api_key(
            key_id, expire_time=_expire_time(expire_days), old_key_lifetime=timedelta(hours=keep_hours)
        )
    _print_key(response, as_json=as_json)


@key.command()
@one_line_failures
def revoke(key_id: KeyId, endpoint: Endpoint = DEFAULT_ENDPOINT, api_key: ApiKey = None) -> None:
    """End a key from the next request on.

    Examples:

        duovec key revoke 4fz81k0qm2xa
    """
    with Client(endpoint, api_key=api_key) as client:
        client.access.revoke_api_key(key_id)
    typer.echo(f"revoked {key_id}")


def _expire_time(days: float | None) -> datetime | None:
    return None if days is None else datetime.now(UTC) + timedelta(days=days)


def _print_key(response: pb.CreateApiKeyResponse | pb.RotateApiKeyResponse, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"key": response.key, **_to_dict(response.api_key)}))
        return
    typer.echo(response.key)  # alone on stdout, so that a shell can take it
    expires = f", expires {when(response.api_key.expire_time)}" if response.api_key.HasField("expire_time") else ""
    typer.echo(f"note: key of {response.api_key.principal_id}{expires}; it is not shown again", err=True)


def _to_dict(row: pb.ApiKey) -> dict[str, object]:
    return {
        "key_id": row.key_id,
        "principal_id": row.principal_id,
        "display_name": row.display_name,
        "create_time": row.create_time.ToJsonString(),
        "expire_time": row.expire_time.ToJsonString() if row.HasField("expire_time") else None,
        "revoke_time": row.revoke_time.ToJsonString() if row.HasField("revoke_time") else None,
    }
