"""The MCP server by the protocol's own checks: its conformance suite, and the MCP inspector's command line."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mcp_over_http import mcp_over_http
from npm_packages import attempt, installed

from gateway.client.client import Client
from gateway.client.indexer import index_tree
from gateway.local.stack import Stack

DUOVEC = str(Path(sys.executable).with_name("duovec"))
SOURCES = Path(__file__).with_name("mcp_checks")
Checks = dict[str, list[dict[str, Any]]]
"""By scenario."""

APPLY = {
    "2025-11-25": {
        *("server-initialize", "server-session-lifecycle", "ping", "tools-list", "resources-list", "prompts-list"),
        *("server-sse-multiple-streams", "dns-rebinding-protection"),
    },
    "2026-07-28": {
        *("server-stateless", "tools-list", "resources-list", "prompts-list", "sep-2164-resource-not-found", "caching"),
        *("server-sse-multiple-streams", "dns-rebinding-protection", "http-header-validation"),
        "input-required-result-unsupported-methods",
    },
}
"""By revision of the protocol, what asks for nothing that a server may not have."""

DO_NOT_APPLY = {
    r"tools-call-.*|elicitation-.*|input-required-result-.*": "call tools and a prompt of a server made for the suite",
    r"json-schema-2020-12|http-custom-header-server-validation": "look at such a server's tools for schemas of theirs",
    r"server-sse-polling": "calls a tool that closes its own stream",
    r"prompts-get-.*|resources-read-.*|resources-templates-read": "ask for prompts and resources; here are none",
    r"resources-(un)?subscribe|logging-set-level|completion-complete": "use what is optional and not announced here",
    r"tasks-.*": "use an extension that is not announced here",
}

NOT_SUCCESSFUL = {
    # They call `test_missing_capability`, and tools that change the list of tools and prompts.
    "server-stateless": {
        "sep-2575-server-rejects-undeclared-capability",
        "sep-2575-missing-capability-http-400",
        "sep-2575-server-sends-prompts-list-changed-on-subscription",
        "sep-2575-server-sends-tools-list-changed-on-subscription",
    },
    # Reads the first resource, and skips itself where there is none.
    "caching": {"sep-2549-resources-read-caching-hints"},
}
"""Checks, within what applies, that ask for tools of the suite's own all the same."""


@pytest.fixture(scope="module")
def packages() -> Path:
    return installed(SOURCES)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mcp-conformance") / "log"


@pytest.fixture(scope="module")
def url(stack: Stack, log: Path) -> Iterator[str]:
    with mcp_over_http(stack.endpoint, log) as url:
        yield url


@pytest.fixture(scope="module")
def checks(stack: Stack, url: str, packages: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checks]:
    """What the suite found, by revision of the protocol; both at once, for it waits for most of its time."""
    folder = tmp_path_factory.mktemp("checks")

    def checked(revision: str) -> Checks:
        ran = attempt(
            *(packages / "node_modules/.bin/conformance", "server", "--url", url),
            *("--requirements", revision, "--output-dir", revision),
            folder=folder,
            NODE_OPTIONS=f"--import={SOURCES / 'bearer.mjs'}",
            DUOVEC_API_KEY=stack.api_key,
        )
        assert "=== SUMMARY ===" in ran.stdout, ran.stdout + ran.stderr
        found = {}
        for result in (folder / revision).iterdir():
            [scenario] = re.findall(r"^server-(.+)-\d{4}-\d\d-\d\dT", result.name)
            found[scenario] = json.loads((result / "checks.json").read_text())
        return found

    with ThreadPoolExecutor() as executor:
        return dict(zip(APPLY, executor.map(checked, APPLY), strict=True))


@pytest.mark.parametrize("revision", APPLY)
def test_the_protocol_s_suite_finds_nothing(checks: dict[str, Checks], revision: str) -> None:
    """In any scenario that applies; of every other it is known why it does not."""
    scenarios = set(checks[revision])
    assert APPLY[revision] <= scenarios
    assert {name for name in scenarios - APPLY[revision] if not re.fullmatch("|".join(DO_NOT_APPLY), name)} == set()
    for scenario in APPLY[revision]:
        found = checks[revision][scenario]
        failed = {check["id"]: check for check in found if check["status"] not in {"SUCCESS", "INFO"}}
        expected = NOT_SUCCESSFUL.get(scenario, set())
        assert set(failed) == expected, {name: failed[name] for name in failed.keys() - expected}
        assert len({check["id"] for check in found}) > len(expected), f"{scenario} checked nothing"


@pytest.mark.parametrize("revision", APPLY)
def test_whatever_is_asked_the_answer_is_of_the_protocol(checks: dict[str, Checks], revision: str, log: Path) -> None:
    """Scenarios that do not apply ask for what there is not: each answer fits the schema, and none is a fault here."""
    every = [(name, check) for name, found in checks[revision].items() for check in found]
    schemas = [(name, check) for name, check in every if check["id"] == "wire-schema-valid"]
    assert len(schemas) > len(APPLY[revision])
    assert [found for found in schemas if found[1]["status"] != "SUCCESS"] == []
    assert [found for found in every if "Internal server error" in json.dumps(found)] == []
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def codebase(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    tree = tmp_path_factory.mktemp("inspected")
    (tree / "files.py").write_text("def load_json(path):\n    with open(path) as f:\n        return json.load(f)\n")
    with Client(stack.endpoint, api_key=stack.api_key) as client:
        index_tree(client, tree, "mcp-inspected")
        yield "mcp-inspected"
        client.delete_codebase("mcp-inspected")


@pytest.mark.parametrize(("transport", "era"), [("stdio", "legacy"), ("http", "modern")])
def test_the_inspector_lists_and_calls_the_tools(
    stack: Stack, url: str, codebase: str, packages: Path, tmp_path: Path, transport: str, era: str
) -> None:
    """With the handshake of the older revisions and without it."""

    def inspected(*arguments: str) -> subprocess.CompletedProcess[str]:
        server = ["-e", f"DUOVEC_API_KEY={stack.api_key}", "--", DUOVEC, "mcp", "--endpoint", stack.endpoint]
        if transport == "http":
            server = ["--header", f"Authorization: Bearer {stack.api_key}", "--transport", "http", "--server-url", url]
        return attempt(
            *(packages / "node_modules/.bin/mcp-inspector", "--cli", "--protocol-era", era, *arguments, *server),
            folder=tmp_path,
            HOME=str(tmp_path),  # where it keeps a catalog
        )

    listed = inspected("--method", "tools/list", "--strict")
    assert (listed.returncode, listed.stderr) == (0, "")  # no schema that some agent would stumble over
    tools = {tool["name"] for tool in json.loads(listed.stdout)["tools"]}
    assert tools == {"search_code", "find_similar", "read_chunk", "list_codebases"}
    arguments = json.dumps({"query": "load json from a file", "codebase": codebase, "limit": 1})
    call = ("--method", "tools/call", "--tool-name", "search_code", "--tool-args-json")
    found = inspected(*call, arguments)
    assert found.returncode == 0, found.stderr
    [content] = json.loads(found.stdout)["content"]
    assert content["text"].startswith(f"1 hit in {codebase}\n\n1. files.py:1-3 load_json\n")
    refused = inspected(*call, json.dumps({"query": "x", "codebase": "no-such"}))
    assert json.loads(refused.stderr.splitlines()[-1])["error"]["code"] == "tool_is_error"
    assert "Next: call list_codebases" in json.loads(refused.stdout)["content"][0]["text"]
