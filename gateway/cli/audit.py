"""`duovec audit`: who changed what."""

import json
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.cli.documents import to_dict
from gateway.cli.failures import one_line_failures
from gateway.cli.options import DEFAULT_ENDPOINT, ApiKey, AsJson, Endpoint, when
from gateway.cli.terminal import harmless
from gateway.client.client import Client

_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


@one_line_failures
def audit(
    by: Annotated[str, typer.Option(help="Only changes by this principal.", show_default=False)] = "",
    about: Annotated[
        str, typer.Option(help="Only changes of this principal, key, codebase or space.", show_default=False)
    ] = "",
    action: Annotated[str, typer.Option(help="Only these, such as GRANT_SET.", show_default=False)] = "",
    since: Annotated[
        datetime | None,
        typer.Option(formats=_FORMATS, help="Only from this time on, UTC.", show_default=False),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(formats=_FORMATS, help="Only before this time, UTC.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Events at most.")] = 50,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show who changed principals, keys, grants, quotas, codebases and spaces, newest first; administrators only.

    Examples:

        duovec audit --about mine --since 2026-11-01

        duovec audit --by alice --action GRANT_SET --json
    """
    with Client(endpoint, api_key=api_key) as client:
        events = client.access.list_audit_events(
            principal_id=by, about=about, action=action, begin_time=_utc(since), end_time=_utc(until)
        )
        rows = list(islice(events, limit))
    if as_json:
        typer.echo(json.dumps({"events": [to_dict(row) for row in rows]}))
        return
    table = Table("time", "who", "key", "from", "action", "what", "details")
    for row in rows:
        details = json.dumps(to_dict(row)["details"]) if row.details.fields else ""
        who = row.principal_id or "the service"
        table.add_row(
            when(row.create_time), who, row.key_id, harmless(row.peer), row.action, row.subject, harmless(details)
        )
    Console().print(table, markup=False)


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC)
