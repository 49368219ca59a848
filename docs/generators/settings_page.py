"""The reference of the gateway's settings, from `gateway/settings.py`, and of the variables that commands read."""

import ast
import inspect
import itertools
import types
import typing
from pathlib import Path
from typing import Any

import annotated_types
from command_pages import APPS, commands_of
from markdown_tables import table
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from gateway.settings import PREFIX, Settings

_INTRODUCTION = f"""# Settings

The gateway reads its settings from the environment when it starts, and only then. Each is a variable `{PREFIX}…`. A
value that is out of its limits ends the start with one line that names the variable; so does a variable that begins
with `{PREFIX}` and is no setting, with the nearest name. `duovec up` sets the addresses, the database, Triton and the
models itself, and hands the rest of its environment on.

Made from `gateway/settings.py`.
"""
_OF_COMMANDS = """## Variables of the commands

They stand in for options, which come first where there is one. The gateway reads those that are settings, too;
`gateway.client` stands for programs of your own.
"""
_OF_OTHERS = """## Variables of others
"""
_CLIENTS = {"duovec", "duovec-batch", "duovec-train", "gateway.client"}
# What clients read by themselves. Of the first the options have the text.
_OF_CLIENTS = {
    "DUOVEC_API_KEY": "",
    "DUOVEC_ALLOW_INSECURE": "`true` where something else encrypts: a key may then leave this machine without TLS.",
    "DUOVEC_CA_FILE": "The authorities that the service's certificate comes from, PEM.",
    "DUOVEC_CLIENT_CERTIFICATE": "Your certificate, where the service asks for one, PEM.",
    "DUOVEC_CLIENT_KEY": "The private key of your certificate, PEM.",
}
_READ_OF_OTHERS = [
    ["`OTEL_EXPORTER_OTLP_ENDPOINT`", "Stands in for `DUOVEC_OTLP_ENDPOINT`.", "the gateway"],
    ["`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_CERTIFICATE`", "Of the connection to it.", "the gateway"],
    ["`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`", "What its spans say of it.", "the gateway"],
    ["`OTEL_TRACES_SAMPLER`", "Which calls are traced.", "the gateway"],
    [
        "`HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME`",
        "Address, key and cache of the Hugging Face hub.",
        "`duovec-export`, `duovec-train`",
    ],
    ["`XDG_CONFIG_HOME`", "Below it `duovec/keys` has the keys of endpoints; `~/.config` without.", "clients"],
    ["`VISUAL`, else `EDITOR`", "Opens hits of `duovec search -i`; `vi` without.", "`duovec`"],
]
_TYPES = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path", SecretStr: "secret"}


def settings_page() -> str:
    """The page."""
    texts = _docstrings()
    parts = [_INTRODUCTION]
    for name, field in Settings.model_fields.items():
        values = f"{_type_of(field.annotation)}{_limits_of(field)}"
        default = "required" if field.is_required() else f"default {_shown(field.default)}"
        parts.append(f"### `{PREFIX}{name.upper()}`\n\n*{values}; {default}*\n\n{texts[name]}\n")
    head = ["Variable", "Meaning", "Read by"]
    parts += [_OF_COMMANDS, table(head, _variables()), _OF_OTHERS, table(head, _READ_OF_OTHERS)]
    return "\n".join(parts)


def _docstrings() -> dict[str, str]:
    """The strings that stand below the fields."""
    (definition,) = ast.parse(inspect.getsource(Settings)).body
    found = {}
    for field, below in itertools.pairwise(definition.body):  # type: ignore[attr-defined]  # it is a class
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found


def _type_of(annotation: Any) -> str:
    if typing.get_origin(annotation) in {types.UnionType, typing.Union}:
        (inner,) = (each for each in typing.get_args(annotation) if each is not type(None))
        return _type_of(inner)
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(f"`{value}`" for value in typing.get_args(annotation))
    return _TYPES[annotation]


def _limits_of(field: FieldInfo) -> str:
    """From the constraints; a pattern is said in the text."""
    least, most = "", ""
    for constraint in field.metadata:
        match constraint:
            case annotated_types.Ge(ge=limit):
                least = f"from {limit:,}"
            case annotated_types.Gt(gt=limit):
                least = f"above {limit:,}"
            case annotated_types.Le(le=limit):
                most = f"to {limit:,}"
    return f", {least} {most}" if least or most else ""


def _shown(default: Any) -> str:
    if default is None:
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _variables() -> list[list[str]]:
    found: dict[str, tuple[str, set[str]]] = {}
    for program in APPS:
        for _, command in commands_of(program):
            for parameter in command.params:
                names = [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or []
                for name in names:
                    found.setdefault(name, (parameter.help or "", set()))[1].add(program)
    for name, text in _OF_CLIENTS.items():
        found.setdefault(name, (text, set()))[1].update(_CLIENTS)
    settings = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    return [
        [
            f"`{name}`",
            text,
            ", ".join([*(f"`{reader}`" for reader in sorted(readers)), *(["the gateway"] if name in settings else [])]),
        ]
        for name, (text, readers) in sorted(found.items())
    ]
