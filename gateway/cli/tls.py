"""The options by which every command that calls the service names its certificates."""

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.client.tls import CA_FILE, CERTIFICATE, KEY

_PANEL = "TLS, for https:// endpoints"


def _option(name: str, what: str, variable: str) -> Any:
    return Annotated[
        Path | None,
        typer.Option(name, help=f"{what}, PEM. [env var: {variable}]", show_default=False, rich_help_panel=_PANEL),
    ]


_OPTIONS = {
    "ca_file": (CA_FILE, _option("--ca-file", "The authorities that the service's certificate comes from", CA_FILE)),
    "client_certificate": (
        CERTIFICATE,
        _option("--client-certificate", "Your certificate, where the service asks for one", CERTIFICATE),
    ),
    "client_key": (KEY, _option("--client-key", "The private key of your certificate", KEY)),
}


def add_tls_options(app: typer.Typer) -> None:
    """Give the options to every command of an application, and of its groups, that has --endpoint."""
    for command in app.registered_commands:
        if command.callback is not None and "endpoint" in inspect.signature(command.callback).parameters:
            command.callback = _with_options(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            add_tls_options(group.typer_instance)


def _with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let the options stand in for the variables that the client reads, for the length of the command."""

    @functools.wraps(command)
    def wrapped(**values: Any) -> Any:
        given = {variable: values.pop(name) for name, (variable, _) in _OPTIONS.items()}
        given = {variable: str(path) for variable, path in given.items() if path is not None}
        if given and not values["endpoint"].startswith("https://"):
            # Else what is meant to be secret would go over the wire in the open.
            raise typer.BadParameter(
                f"{values['endpoint']} is not encrypted, and certificates were given; use https://HOST:PORT",
                param_hint="--endpoint",
            )
        before = {variable: os.environ.get(variable) for variable in given}
        os.environ.update(given)
        try:
            return command(**values)
        finally:
            for variable, value in before.items():
                os.environ.pop(variable)
                if value is not None:
                    os.environ[variable] = value

    signature = inspect.signature(command)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, (_, option) in _OPTIONS.items()
    ]
    wrapped.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {**command.__annotations__, **{name: option for name, (_, option) in _OPTIONS.items()}}
    return wrapped
