"""`duovec status`: is the service there, and what does it hold?"""

import json

import typer
from rich.console import Console
from rich.table import Table

from gateway.cli.failures import one_line_failures
from gateway.cli.options import DEFAULT_ENDPOINT, ApiKey, AsJson, Endpoint
from gateway.client.client import Client


@one_line_failures
def status(endpoint: Endpoint = DEFAULT_ENDPOINT, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show the service's health and its codebases. Exits with 1 when it does not serve.

    Examples:

        duovec status

        duovec status --endpoint search.internal:50051 --json
    """
    with Client(endpoint, api_key=api_key, timeout_s=10.0) as client:
        health = client.health()
        codebases = list(client.list_codebases()) if health == "SERVING" else []
    if as_json:
        document = {
            "endpoint": endpoint,
            "health": health,
            "codebases": [
                {
                    "codebase_id": codebase.codebase_id,
                    "display_name": codebase.display_name,
                    "create_time": codebase.create_time.ToJsonString(),
                    "chunk_count": codebase.chunk_count,
                    "pending_chunk_count": codebase.pending_chunk_count,
                }
                for codebase in codebases
            ],
        }
        typer.echo(json.dumps(document))
    else:
        console = Console()
        console.print(f"{endpoint}: {health}", markup=False, highlight=False)
        if codebases:
            table = Table("codebase", "chunks", "pending", "created")
            for codebase in codebases:
                created = codebase.create_time.ToDatetime().strftime("%Y-%m-%d %H:%M")
                table.add_row(
                    codebase.codebase_id, f"{codebase.chunk_count:,}", f"{codebase.pending_chunk_count:,}", created
                )
            console.print(table)
        elif health == "SERVING":
            console.print("no codebase yet: make one with `duovec index PATH`")
    if health != "SERVING":
        raise typer.Exit(1)
