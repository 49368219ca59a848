"""`duovec health`: does the service serve? For probes, which have neither a key nor much time."""

from typing import Annotated

import typer

from gateway.cli.failures import one_line_failures
from gateway.cli.options import DEFAULT_ENDPOINT, Endpoint
from gateway.client.client import Client


@one_line_failures
def health(
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    timeout: Annotated[float, typer.Option(min=0.1, help="How long the answer may take, seconds.")] = 5.0,
) -> None:
    """Ask the service for its health, without a key. Exits with 1 when it does not serve.

    Examples:

        duovec health --endpoint unix-abstract:duovec
    """
    with Client(endpoint, timeout_s=timeout) as client:
        answer = client.health()
    typer.echo(answer)
    if answer != "SERVING":
        raise typer.Exit(1)
