"""The log of a running gateway in JSON, as a program reads it."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from polling import until

from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.local.process import GatewayServer, free_port
from gateway.local.stack import Stack


@dataclass
class Logged:
    """A gateway and the file that it logs to."""

    endpoint: str
    path: Path

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def requests(self) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["logger"] == "gateway.requests"]

    def until(self, count: int) -> list[dict[str, Any]]:
        """Those of so many requests: who fails is told before the line is written."""
        return until(self.requests, lambda lines: len(lines) >= count)


@pytest.fixture
async def logged(stack: Stack, tmp_path: Path) -> AsyncIterator[Logged]:
    """Beside that of the session."""
    endpoint, path = f"127.0.0.1:{free_port()}", tmp_path / "gateway.log"
    settings = {
        "DUOVEC_LOG_FORMAT": "json",
        "DUOVEC_LOG_REQUESTS": "true",
        "DUOVEC_METRICS_LISTEN": "127.0.0.1:0",
        "DUOVEC_DRAIN_S": "1",
    }
    gateway = GatewayServer(endpoint, stack._gateway_environment | settings, log_path=path)
    await gateway.start()
    yield Logged(endpoint, path)
    await gateway.stop()


async def test_every_line_is_json_and_requests_have_theirs(logged: Logged, stack: Stack) -> None:
    """Of one that went well, since that was asked for, and of one that failed: who, what, how long, and no key."""

    def call() -> None:
        with Client(logged.endpoint, api_key=stack.api_key) as client:
            list(client.list_codebases())
            with pytest.raises(ClientError):
                client.get_codebase("not-there")
            logged.until(2)
        stranger = Client(logged.endpoint, api_key="duovec_aaaaaaaaaaaa_" + "b" * 64)
        with stranger, pytest.raises(ClientError):
            list(stranger.list_codebases())
        logged.until(3)

    await asyncio.to_thread(call)
    lines = logged.lines()
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    asked = logged.requests()
    assert [(line["method"], line["code"], line["reason"], line["principal_id"], line["level"]) for line in asked] == [
        ("CodebaseService/ListCodebases", "OK", "", "admin", "INFO"),
        ("CodebaseService/GetCodebase", "NOT_FOUND", "CODEBASE_NOT_FOUND", "admin", "INFO"),
        ("CodebaseService/ListCodebases", "UNAUTHENTICATED", "API_KEY_INVALID", "-", "INFO"),
    ]
    assert all(len(line["request_id"]) == 16 and 0 < line["duration_ms"] < 60_000 for line in asked)
    text = logged.path.read_text()
    assert "not-there" not in text
    assert stack.api_key not in text
    assert "b" * 64 not in text
