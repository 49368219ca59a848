"""The HTTP door of a gateway as it is run: who may enter, in what time, and what a failure looks like."""

import asyncio
import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest

from gateway.client.client import Client
from gateway.local.stack import Stack


class Http:
    """One connection, whose requests carry a key unless they say otherwise."""

    def __init__(self, endpoint: str, api_key: str) -> None:
        self.connection = HTTPConnection(endpoint, timeout=30)
        self.api_key = api_key

    def send(
        self, verb: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[HTTPResponse, Any]:
        """Send one request; gives the reply and its body out of JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {self.api_key}"} if headers is None else headers
        self.connection.request(verb, path, data, headers)
        reply = self.connection.getresponse()
        content = reply.read()
        return reply, json.loads(content) if content else None


@pytest.fixture
def http(stack: Stack) -> Iterator[Http]:
    """As an administrator."""
    http = Http(stack.http_endpoint, stack.api_key)
    yield http
    http.connection.close()


def test_health_is_open_to_all(http: Http) -> None:
    """A probe has no key."""
    reply, body = http.send("GET", "/healthz", headers={})
    assert (reply.status, body) == (200, {"status": "SERVING"})


def test_a_service_answers_the_same_in_json(http: Http, client: Client) -> None:
    """What gRPC says, a browser reads: both doors ask the same servicer."""
    client.create_codebase("json-door", display_name="Of the other door")
    reply, body = http.send("POST", "/duovec.v1.CodebaseService/GetCodebase", {"codebaseId": "json-door"})
    codebase = client.get_codebase("json-door")
    assert reply.status == 200
    assert body["codebase"]["displayName"] == codebase.display_name == "Of the other door"
