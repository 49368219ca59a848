"""Every command helps: it says what it does, what each option is, and shows calls that it would take."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

import gateway.cli.main


def commands(group: Any, words: tuple[str, ...] = ("duovec",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command by the words that call it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name), command


ALL = dict(commands(typer.main.get_command(gateway.cli.main.app)))


def examples(command: Any) -> list[str]:
    """The lines below `Examples:` that begin with a command."""
    _, _, below = (command.help or "").partition("Examples:")
    return [line.strip() for line in below.splitlines() if line.strip()]


def test_all_are_seen() -> None:
    assert {("duovec", "sync"), ("duovec", "mcp"), ("duovec", "space", "build")} <= set(ALL)


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_a_command_has_examples_that_it_takes(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed as by a shell; paths that an example names need not be there."""
    command = ALL[words]
    assert examples(command)
    for parameter in command.params:
        monkeypatch.setattr(parameter.type_descriptor.parameter_info, "exists", False)
    for example in examples(command):
        inner = re.search(r"\$\((duovec [^)]*)\)", example)
        called = shlex.split(re.sub(r" [<>|] .*", "", inner[1] if inner else example))
        assert tuple(called[: len(words)]) == words, example
        command.make_context(words[-1], called[len(words) :])


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_option_is_explained(words: tuple[str, ...]) -> None:
    unexplained = [one.name for one in ALL[words].params if not getattr(one, "help", None) and one.name != "help"]
    assert unexplained == []
