"""The reference of the commands, from their Typer applications: one page a program."""

import typing
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import typer
from markdown_tables import table

import export.cli.main
import gateway.batch.cli
import gateway.cli.main
import training.cli.main

APPS = {
    "duovec": gateway.cli.main.app,
    "duovec-export": export.cli.main.app,
    "duovec-train": training.cli.main.app,
    "duovec-batch": gateway.batch.cli.app,
}
_NAMES = {str: "text", int: "number", float: "number", Path: "path", datetime: "time"}
_SAY = {
    "duovec": "Extra `client`; `up`, `demo`, `doctor` and `tune` take `local`, `mcp` takes `mcp`. `export` makes the "
    "encoders that a first `up` serves, and writes what `tune` finds.",
    "duovec-export": "Extra `export`.",
    "duovec-train": "Extra `training`.",
    "duovec-batch": "Extra `ray`.",
}


def command_pages() -> dict[str, str]:
    """Pages by their place in the site."""
    return {f"reference/cli/{program}.md": _page(program) for program in APPS}


def commands_of(program: str) -> Iterator[tuple[str, Any]]:
    """The commands of a program, by the words that call them."""
    yield from _below(program, typer.main.get_command(APPS[program]))


def _below(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield words, command
        return
    for name, inner in command.commands.items():
        yield from _below(f"{words} {name}", inner)


def _page(program: str) -> str:
    parts = [
        f"# {program}\n\n{_SAY[program]} Exit codes: 0, 1 for a failure, 2 for wrong use. "
        "What `--help` says, in one page.\n"
    ]
    for words, command in commands_of(program):
        parts.append(f"## {words}\n\n{_text(words, command)}")
    return "\n".join(parts)


def _text(words: str, command: Any) -> str:
    told, _, examples = (command.help or "").partition("Examples:")
    paragraphs = [" ".join(paragraph.split()) + "\n" for paragraph in told.split("\n\n") if paragraph.strip()]
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    arguments = [_usage(parameter) for parameter in shown if parameter.param_type_name == "argument"]
    parts = [*paragraphs, f"```text\n{' '.join([words, *arguments, '[OPTIONS]'])}\n```\n"]
    if shown:
        parts.append(table(["Argument or option", "Meaning", "Default"], map(_row, shown)))
    lines = [line.strip() for line in examples.splitlines() if line.strip()]
    if lines:
        # A line that does not begin with a program goes on from the one before.
        joined = "\n".join(lines).replace("\n--", " \\\n    --")
        parts.append(f"```bash\n{joined}\n```\n")
    return "\n".join(parts)


def _usage(argument: Any) -> str:
    name = argument.name.upper() + ("…" if argument.type_descriptor.is_list else "")
    return name if argument.required else f"[{name}]"


def _row(parameter: Any) -> list[str]:
    kind = _kind(parameter)
    if parameter.param_type_name == "argument":
        names = f"`{_usage(parameter)}`"
    else:
        names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if parameter.required:
        default = "required"
    elif parameter.default is None or parameter.default is False or callable(parameter.default):
        default = parameter.show_default if isinstance(parameter.show_default, str) else ""
    else:
        default = f"`{getattr(parameter.default, 'value', parameter.default)}`"
    return [f"{names} {kind}".strip(), parameter.help or "", default]


def _kind(parameter: Any) -> str:
    """What a value is; nothing for a flag, and for an argument that is text."""
    descriptor = parameter.type_descriptor
    if getattr(parameter, "is_flag", False):
        return ""
    if descriptor.is_choice:
        return " or ".join(f"`{choice}`" for choice in descriptor.choices)
    shown = " ".join(filter(None, (_NAMES.get(_base(descriptor.annotation), ""), _range(parameter))))
    return f"{shown}, repeatable" if descriptor.is_list and parameter.param_type_name == "option" else shown


def _base(annotation: Any) -> Any:
    """The type of one value."""
    inner = [each for each in typing.get_args(annotation) if each is not type(None)]
    return _base(inner[0]) if inner else annotation


def _range(parameter: Any) -> str:
    least, most = getattr(parameter, "min", None), getattr(parameter, "max", None)
    if least is None and most is None:
        return ""
    if most is None:
        return f"from {least}"
    return f"to {most}" if least is None else f"{least} to {most}"
