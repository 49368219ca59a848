"""The MCP server as an agent has it: the official SDK's client over stdio and HTTP, against the running service."""

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client as McpClient
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_over_http import mcp_over_http, status

from gateway.client.client import Client
from gateway.client.indexer import index_tree
from gateway.local.stack import Stack

DUOVEC = str(Path(sys.executable).with_name("duovec"))
CODEBASE = "mcp-demo"
FILES = {
    "src/queue.py": "def take(queue):\n    return queue.pop(0)\n\n\ndef put(queue, item):\n    queue.append(item)\n",
    "src/files.py": "def load_json(path):\n    with open(path) as file:\n        return json.load(file)\n",
    "long.py": "def long():\n" + "".join(f"    step({number})\n" for number in range(30)),
}
READING = {"search_code", "find_similar", "read_chunk", "list_codebases"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mcp") / "root"
    for path, content in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return root


@pytest.fixture(scope="module")
def codebase(stack: Stack, tree: Path) -> Iterator[str]:
    with Client(stack.endpoint, api_key=stack.api_key) as client:
        index_tree(client, tree, CODEBASE)
        yield CODEBASE
        client.delete_codebase(CODEBASE)


def text(result: Any, *, is_error: bool = False) -> str:
    """What a tool answered."""
    [content] = result.content
    assert bool(result.is_error) == is_error, content.text
    return str(content.text)


@asynccontextmanager
async def over_stdio(stack: Stack, *arguments: str, key: str | None = None) -> AsyncIterator[McpClient]:
    """The server as an agent starts it."""
    parameters = StdioServerParameters(
        command=DUOVEC,
        args=["mcp", "--endpoint", stack.endpoint, *arguments],
        env={"DUOVEC_API_KEY": key or stack.api_key},
    )
    async with McpClient(stdio_client(parameters)) as client:
        yield client


async def test_an_agent_finds_reads_and_compares_code(stack: Stack, codebase: str) -> None:
    """Answers are short, and every place stands there as path:line."""
    async with over_stdio(stack, "--codebase", codebase) as agent:
        tools = {tool.name: tool for tool in (await agent.list_tools()).tools}
        assert set(tools) == READING
        assert all(tool.description and tool.annotations and tool.annotations.read_only_hint for tool in tools.values())
        found = text(await agent.call_tool("search_code", {"query": "load json from a file", "limit": 2}))
        assert found.startswith(f"2 hits in {codebase}\n\n1. src/files.py:1-3 load_json\n")
        assert "     2     with open(path) as file:\n" in found
        chunk_id = int(re.findall(r"chunk_id (\d+)", found)[0])
        long = text(await agent.call_tool("search_code", {"query": "long step", "paths": ["long.py"]}))
        assert "… 23 more lines" in long
        assert len(long) < 1000
        similar = text(await agent.call_tool("find_similar", {"chunk_id": chunk_id, "limit": 3}))
        assert "src/files.py" not in similar
        by_code = text(await agent.call_tool("find_similar", {"code": "def put(q, x):\n    q.append(x)\n", "limit": 1}))
        assert by_code.split("\n")[2] == "1. src/queue.py:5-6 put"
        put_id = int(re.findall(r"chunk_id (\d+)", by_code)[0])
        read = text(await agent.call_tool("read_chunk", {"chunk_id": put_id}))
        assert read.startswith("src/queue.py:5-6 put\n\n-- lines 1-2, chunk_id ")
        assert f"\n\n-- lines 5-6, chunk_id {put_id} (this one)\n     5 def put(queue, item):\n" in read
        alone = text(await agent.call_tool("read_chunk", {"chunk_id": put_id, "neighbors": 0}))
        assert "def take" not in alone
        assert f"{codebase}: 4 chunks" in text(await agent.call_tool("list_codebases", {}))


async def test_failures_are_the_tool_s_with_the_next_step(stack: Stack, codebase: str, client: Client) -> None:
    """None ends the session."""
    async with over_stdio(stack) as agent:

        async def failure(tool: str, **arguments: Any) -> str:
            return text(await agent.call_tool(tool, arguments), is_error=True)

        assert "Next: call list_codebases" in await failure("search_code", query="x", codebase="no-such")
        assert "Next: search again" in await failure("read_chunk", chunk_id=2**40, codebase=codebase)
        assert "give one of chunk_id and code" in await failure("find_similar", codebase=codebase)
        assert "limit" in await failure("search_code", query="x", limit=1000, codebase=codebase)
        assert "Next: correct the argument" in await failure("search_code", query=" ", codebase=codebase)
        assert "no-such-tool" in await failure("no-such-tool")
        assert "hits in" in text(await agent.call_tool("search_code", {"query": "x", "codebase": codebase}))
    async with over_stdio(stack, key="duovec_" + "0" * 12 + "_" + "0" * 64) as agent:
        told = text(await agent.call_tool("list_codebases", {}), is_error=True)
        assert "Next: ask the user for an API key that is valid" in told


async def test_only_what_lies_in_a_root_is_indexed(stack: Stack, tree: Path, client: Client, tmp_path: Path) -> None:
    """Neither dots, nor absolute paths, nor links lead out of it."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.py").write_text("def key():\n    return 'secret'\n")
    (tree / "link").symlink_to(tmp_path / "secret")
    try:
        async with over_stdio(stack, "--root", str(tree)) as agent:
            assert {tool.name for tool in (await agent.list_tools()).tools} == READING | {"index_folder"}
            for folder in ("..", "link", str(tmp_path / "secret"), "/", "src/../..", "~"):
                arguments = {"folder": folder, "codebase": "mcp-outside"}
                told = text(await agent.call_tool("index_folder", arguments), is_error=True)
                assert "is in no folder that may be indexed" in told or "there is no folder" in told
            progress: list[float] = []

            async def on_progress(done: float, total: float | None, message: str | None) -> None:
                progress.append(done)

            whole = await agent.call_tool(
                "index_folder", {"folder": ".", "codebase": "mcp-indexed"}, progress_callback=on_progress
            )
            assert text(whole).startswith("mcp-indexed (created): 3 files, 3 stored anew, 0 unchanged, 0 removed;")
            assert "1 symbolic link" in text(whole)
            again = text(await agent.call_tool("index_folder", {"folder": str(tree), "codebase": "mcp-indexed"}))
            assert again.startswith("mcp-indexed: 3 files, 0 stored anew, 3 unchanged")
            assert progress
        assert {row.codebase_id for row in client.list_codebases()} & {"mcp-outside", "mcp-indexed"} == {"mcp-indexed"}
        assert "secret" not in {file.path for file in client.list_files("mcp-indexed")}
    finally:
        (tree / "link").unlink()
        client.delete_codebase("mcp-indexed")


def test_nothing_but_the_protocol_is_on_stdout(stack: Stack, codebase: str) -> None:
    """Each line is a message, whatever goes wrong meanwhile; the end of stdin is the end."""
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call"}
    bad = {**call, "params": {"name": "search_code", "arguments": {"query": "x", "codebase": "no-such"}}}
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    lines = [json.dumps(hello), json.dumps(ready), "no json", json.dumps(bad)]
    with subprocess.Popen(
        [DUOVEC, "mcp", "--endpoint", stack.endpoint],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "DUOVEC_API_KEY": stack.api_key},
        text=True,
    ) as process:
        assert process.stdin and process.stdout
        process.stdin.write("\n".join(lines) + "\n")
        process.stdin.flush()
        seen = []
        while not any(message.get("id") == 2 for message in seen):
            seen.append(json.loads(process.stdout.readline()))
        process.stdin.close()
        rest = process.stdout.read()
        assert process.wait(timeout=30) == 0
    assert all(message["jsonrpc"] == "2.0" for message in seen)
    assert seen[0]["result"]["serverInfo"]["name"] == "duovec"
    assert rest == ""


@pytest.fixture(scope="module")
def url(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server over HTTP, without a key of its own."""
    log = tmp_path_factory.mktemp("mcp-http") / "log"
    with mcp_over_http(stack.endpoint, log) as url:
        yield url
        assert f"serving MCP at {url}," in log.read_text()


@asynccontextmanager
async def over_http(url: str, key: str) -> AsyncIterator[McpClient]:
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {key}"}, timeout=60) as http,
        McpClient(streamable_http_client(url, http_client=http)) as client,
    ):
        yield client


async def test_over_http_everybody_acts_by_the_own_key(stack: Stack, codebase: str, client: Client, url: str) -> None:
    """What one may not see does not exist for one; without a key nobody comes in."""
    client.access.create_principal("mcp-stranger")
    try:
        stranger = client.access.create_api_key("mcp-stranger").key
        async with over_http(url, stack.api_key) as agent:
            arguments = {"query": "load json", "codebase": codebase}
            assert "src/files.py:1-3" in text(await agent.call_tool("search_code", arguments))
            assert {tool.name for tool in (await agent.list_tools()).tools} == READING
            async with over_http(url, stranger) as other:
                assert "does not exist" in text(await other.call_tool("search_code", arguments), is_error=True)
                assert "there is no codebase" in text(await other.call_tool("list_codebases", {}))
    finally:
        client.access.delete_principal("mcp-stranger")
    assert status(url) == 401
    assert status(url, authorization="Basic eDp5") == 401


def test_over_http_other_sites_pages_are_kept_out(stack: Stack, url: str) -> None:
    """A page in a browser on this machine may send to any port, by a name that leads here."""
    bearer = f"Bearer {stack.api_key}"
    accept = {
        "authorization": bearer,
        "content_type": "application/json",
        "accept": "application/json, text/event-stream",
    }
    assert status(url, **accept, host="evil.example.org") == 421
    assert status(url, **accept, origin="https://evil.example.org") == 403
