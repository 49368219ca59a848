"""Options that several commands share."""

from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.client.target import DEFAULT_ENDPOINT

Endpoint = Annotated[
    str,
    typer.Option(envvar="DUOVEC_ENDPOINT", help="Where the service listens: host:port, or https://host:port."),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        envvar="DUOVEC_API_KEY",
        help="Your API key; when not given, the one that is kept for the endpoint, which a running `duovec up` does.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, for programs.")]

__all__ = ["DEFAULT_ENDPOINT", "ApiKey", "AsJson", "Endpoint", "when"]


def when(time: Timestamp) -> str:
    """A time in UTC, as tables show it."""
    return time.ToDatetime().strftime("%Y-%m-%d %H:%M")
