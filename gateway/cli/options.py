"""Options that several commands share."""

from typing import Annotated

import typer

from gateway.client.client import DEFAULT_ENDPOINT

Endpoint = Annotated[
    str,
    typer.Option(envvar="DUOVEC_ENDPOINT", help="Where the service listens: host:port, or https://host:port."),
]
ApiKey = Annotated[
    str | None,
    typer.Option(envvar="DUOVEC_API_KEY", show_envvar=True, help="Key of the caller, where the service asks for one."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, for programs.")]

__all__ = ["DEFAULT_ENDPOINT", "ApiKey", "AsJson", "Endpoint"]
