"""What the files of a deployment tell containers to run, checked against the programs themselves."""

import importlib.util
import re
import subprocess
from functools import cache
from typing import Any

import typer

import export.cli.main
import gateway.cli.main
import training.cli.main
from gateway.local.triton import find_libpython, find_triton, triton_environment

APPS = {"duovec": gateway.cli.main.app, "duovec-export": export.cli.main.app, "duovec-train": training.cli.main.app}


def check_command(words: list[str]) -> None:
    """Parse a command line as the program would, without running it.

    Raises:
        AssertionError, click.UsageError: There is no such program, or it does not take these words.
    """
    program, *arguments = words
    if program == "python":
        assert arguments[0] == "-m"
        assert importlib.util.find_spec(arguments[1]) is not None, arguments[1]
    elif program == "tritonserver":
        unknown = {word.split("=")[0] for word in arguments} - triton_options()
        assert not unknown, unknown
    else:
        context(APPS[program], program, arguments)


def context(app: typer.Typer, program: str, arguments: list[str]) -> Any:
    """The innermost click context of a command line; making it checks every option and value."""
    command = typer.main.get_command(app)
    made = command.make_context(program, list(arguments))
    while hasattr(made.command, "commands"):
        name, found, rest = made.command.resolve_command(made, [*made._protected_args, *made.args])
        assert found is not None
        made = found.make_context(name, rest, parent=made)
    return made


def environment_variables(words: list[str]) -> set[str]:
    """The DUOVEC_ variables that a command of ours reads as options."""
    program, *arguments = words
    return {
        variable
        for parameter in context(APPS[program], program, arguments).command.params
        for variable in ([parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or [])
    }


@cache
def triton_options() -> frozenset[str]:
    """The options of the Triton that is installed here, 2.51."""
    install = find_triton()
    shown = subprocess.run(
        [install.binary, "--help"],
        env=triton_environment(install, find_libpython()),
        capture_output=True,
        text=True,
        check=False,
    )
    return frozenset(re.findall(r"--[a-z0-9-]+", shown.stdout + shown.stderr))
