"""What the documentation tells people to type exists."""

import ast
import inspect
import re
import shlex
from pathlib import Path

import pytest
import typer
from google.protobuf import json_format, message_factory

import export.cli.main
import gateway.batch.cli
import gateway.cli.main
import training.cli.main
from duovec.v1 import (
    codebase_service_pb2,
    embedding_service_pb2,
    index_service_pb2,
    principal_service_pb2,
    search_service_pb2,
)
from gateway.cli.up import DEFAULT_HTTP_LISTEN
from gateway.client.client import Client
from gateway.http.embeddings_request import read_request
from gateway.http.openapi import openapi_document

ROOT = Path(__file__).parents[2]
DOCS = ("README.md", "CONTRIBUTING.md")
APPS = {"duovec": gateway.cli.main.app, "duovec-export": export.cli.main.app, "duovec-train": training.cli.main.app}
SERVICES = {
    service.full_name: service
    for module in (
        codebase_service_pb2,
        embedding_service_pb2,
        index_service_pb2,
        principal_service_pb2,
        search_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
}


def blocks(document: str, *languages: str) -> list[str]:
    """The fenced blocks of a document in some languages."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```(?:{'|'.join(languages)})\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(document: str) -> list[list[str]]:
    """The command lines of a document, split into words; continued lines are one."""
    lines = "\n".join(blocks(document, "bash", "console")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line.removeprefix("$ "), comments=True))]


COMMANDS = [words for document in DOCS for words in commands(document)]


def of_program(*names: str) -> list[object]:
    """The documented calls of some programs, as parameters of a test."""
    return [pytest.param(words, id=" ".join(words)) for words in COMMANDS if words[0] in names]


def test_readme_shows_each_way_in() -> None:
    """The tests below see the commands; an empty list would pass them all."""
    assert {"make", "duovec", "duovec-export", "duovec-batch", "grpcurl"} <= {words[0] for words in COMMANDS}
    assert {"demo", "test"} <= {words[1] for words in COMMANDS if words[0] == "make"}
    used = {words[1] for words in COMMANDS if words[0] == "duovec"}
    assert {"up", "index", "search", "embed", "status", "doctor"} <= used


@pytest.mark.parametrize("words", of_program("make"))
def test_make_target_and_variables_exist(words: list[str]) -> None:
    """A target is a phony one of the Makefile, a variable one that it reads."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z_]+)\s*\?=", makefile, re.MULTILINE))
    assert {word for word in words[1:] if "=" not in word} <= targets
    assert {word.split("=")[0] for word in words[1:] if "=" in word} <= variables


@pytest.mark.parametrize("words", of_program(*APPS))
def test_command_parses(words: list[str]) -> None:
    """The command takes these arguments and options."""
    program, name, *arguments = words
    command = typer.main.get_command(APPS[program]).commands[name]  # type: ignore[attr-defined]
    if hasattr(command, "commands"):
        name, *arguments = arguments
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.split("=")[0] for word in arguments if word.startswith("-") and word != "-"} <= known


@pytest.mark.parametrize("words", of_program("duovec-batch"))
def test_batch_command_parses(words: list[str]) -> None:
    """As it would be run."""
    context = typer.main.get_command(gateway.batch.cli.app).make_context(words[0], words[1:])
    assert context.params["sources"]


@pytest.mark.parametrize("words", of_program("grpcurl"))
def test_grpcurl_call_matches_the_protos(words: list[str]) -> None:
    """The method exists, and the JSON is a request of it."""
    assert "127.0.0.1:50051" in words
    if words[-1] == "list":
        return
    service, method = words[-1].split("/")
    request = message_factory.GetMessageClass(SERVICES[service].methods_by_name[method].input_type)()
    json_format.Parse(words[words.index("-d") + 1], request)
    assert request.ByteSize() > 0


@pytest.mark.parametrize("words", of_program("curl"))
def test_curl_call_matches_the_routes(words: list[str]) -> None:
    """Of OpenAI's API and of the services as JSON; `tests/integration/gateway/test_openai.py` runs them."""
    (url,) = (word for word in words if word.startswith("http"))
    address, _, path = url.removeprefix("http://").partition("/")
    assert address == DEFAULT_HTTP_LISTEN
    if path.startswith("duovec.v1."):
        service, method = path.split("/")
        request = message_factory.GetMessageClass(SERVICES[service].methods_by_name[method].input_type)()
        json_format.Parse(words[words.index("-d") + 1], request)
    else:
        (operation,) = openapi_document()["paths"][f"/{path}"]
        assert operation == ("post" if "-d" in words else "get")
    if path == "v1/embeddings":
        assert read_request(words[words.index("-d") + 1].encode()).input


def test_python_of_the_readme_fits_the_client() -> None:
    """Every call of the example binds to the client's signature."""
    (source,) = (block for block in blocks("README.md", "python") if "gateway.client" in block)
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    bound = []
    for call in calls:
        arguments, options = [None] * len(call.args), {keyword.arg: None for keyword in call.keywords}
        if isinstance(call.func, ast.Name) and call.func.id == "Client":
            inspect.signature(Client).bind(*arguments, **options)
            bound.append("Client")
        elif isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "client":
            inspect.signature(getattr(Client, call.func.attr)).bind(None, *arguments, **options)
            bound.append(call.func.attr)
    assert sorted(bound) == ["Client", "embed", "search"]


def test_every_path_of_the_layout_exists() -> None:
    """And every package of the gateway has its line."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    layout = text.split("## Layout\n")[1].split("\n## ")[0]
    paths = re.findall(r"^\| `([^`]+)`", layout, re.MULTILINE)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    packages = {f"gateway/{path.parent.name}/" for path in (ROOT / "gateway").glob("*/__init__.py")}
    assert packages <= set(paths)


@pytest.mark.parametrize("document", [*DOCS, "CHANGELOG.md", "DECISIONS.md"])
def test_files_that_a_document_names_exist(document: str) -> None:
    """Links, and names in backquotes that begin with one of our folders."""
    text = (ROOT / document).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    named = re.findall(r"`((?:deploy|export|gateway|protos|tests|training)/[^`\s]*)`", text)
    assert [path for path in (*links, *named) if not (ROOT / path).exists()] == []
