"""The reference of the commands, from their Typer applications: one page a program."""

from collections.abc import Iterator
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
_SAY = {
    "duovec": "Extra `client`; `up`, `demo`, `doctor` and `tune` take `local`, `mcp` takes `mcp`.",
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
    context = typer.main.get_command(APPS[words.split()[0]]).context_class(command, info_name=words)
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [" ".join(told.split("\n\n")[0].split()) + "\n"]
    parts += [" ".join(paragraph.split()) + "\n" for paragraph in told.split("\n\n")[1:] if paragraph.strip()]
    parts.append(f"```text\n{words} {usage}\n```\n")
    rows = [_row(parameter, context) for parameter in command.params if not getattr(parameter, "hidden", False)]
    if rows:
        parts.append(table(["Argument or option", "Meaning", "Default"], rows))
    lines = [line.strip() for line in examples.splitlines() if line.strip()]
    if lines:
        # A line that does not begin with a program goes on from the one before.
        joined = "\n".join(lines).replace("\n--", " \\\n    --")
        parts.append(f"```bash\n{joined}\n```\n")
    return "\n".join(parts)


def _row(parameter: Any, context: Any) -> list[str]:
    names, _ = parameter.get_help_record(context)
    names = names.replace("<", "").replace(">", "").replace("list[str]", "TEXT …").replace("str", "TEXT")
    shown = f"`{names}`"
    if parameter.required:
        default = "required"
    elif parameter.default is None or parameter.default is False or callable(parameter.default):
        default = parameter.show_default if isinstance(parameter.show_default, str) else ""
    else:
        default = f"`{getattr(parameter.default, 'value', parameter.default)}`"
    limits = f" {_range(parameter)}" if _range(parameter) else ""
    return [shown, (parameter.help or "") + limits, default]


def _range(parameter: Any) -> str:
    least, most = getattr(parameter, "min", None), getattr(parameter, "max", None)
    if least is None and most is None:
        return ""
    return (
        f"({least} to {most})"
        if None not in (least, most)
        else f"(at least {least})"
        if most is None
        else f"(≤ {most})"
    )
