"""`duovec feedback`: say what the hits of a search were worth."""

from typing import Annotated

import typer

from gateway.cli.failures import one_line_failures
from gateway.cli.options import DEFAULT_ENDPOINT, ApiKey, Endpoint
from gateway.client.client import Client


@one_line_failures
def feedback(
    search_id: Annotated[str, typer.Argument(help="What `duovec search` printed below its hits.")],
    useful: Annotated[
        list[int] | None, typer.Option(help="Chunk id of a hit that is what you sought; repeatable.")
    ] = None,
    opened: Annotated[list[int] | None, typer.Option(help="Of one that you looked at; repeatable.")] = None,
    not_useful: Annotated[
        list[int] | None, typer.Option(help="Of one that is not what you sought; repeatable.")
    ] = None,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
) -> None:
    """Say which hits of a search of yours were useful; the models learn from it, and `duovec quality` shows it.

    Examples:

        duovec feedback 0b9a3f5e-6c1d-4e2f-8a7b-1c2d3e4f5a6b --useful 4711 --not-useful 4712
    """
    said = [*(useful or ()), *(opened or ()), *(not_useful or ())]
    if not said:
        raise typer.BadParameter("name a hit with --useful, --opened or --not-useful", param_hint="CHUNK_ID")
    with Client(endpoint, api_key=api_key) as client:
        client.record_feedback(search_id, useful=useful or (), opened=opened or (), not_useful=not_useful or ())
    count = len(set(said))
    typer.echo(f"recorded for {count} hit{'' if count == 1 else 's'}")
