"""Turns the client's errors into one line on stderr and an exit code."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

from gateway.cli.terminal import harmless
from gateway.client.errors import ClientError

_P = ParamSpec("_P")
_R = TypeVar("_R")


def one_line_failures(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Wrap a command: an error of client, system or encoding is one line on stderr and exit code 1, Ctrl-C 130."""

    @functools.wraps(command)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return command(*args, **kwargs)
        except ClientError as error:
            details = "; ".join(f"{bad.field}: {bad.description}" for bad in error.violations)
            # The server's message often is the violation already.
            shown = f"{error} ({details})" if details and details not in str(error) else str(error)
            typer.echo(harmless(f"error: {shown} [{error.reason or error.code.name}]"), err=True)
            raise typer.Exit(1) from None
        except UnicodeError as error:
            typer.echo(f"error: a text, a name or stdin is not UTF-8: {error}", err=True)
            raise typer.Exit(1) from None
        except OSError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from None

    return wrapped
