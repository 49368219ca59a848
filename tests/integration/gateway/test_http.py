"""The HTTP door of a gateway as it is run: who may enter, in what time, and what a failure looks like."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest
from polling import until
from test_permissions import METHODS

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


def test_what_rights_a_key_has_it_has_here(http: Http, client: Client, stack: Stack) -> None:
    """What one may not see does not exist; what takes an administrator does."""
    client.create_codebase("http-hidden")
    client.access.create_principal("http-alice")
    alice = {"authorization": f"Bearer {client.access.create_api_key('http-alice').key}"}
    reply, body = http.send(
        "POST", "/duovec.v1.CodebaseService/GetCodebase", {"codebaseId": "http-hidden"}, headers=alice
    )
    assert (reply.status, body["error"]["reason"]) == (404, "CODEBASE_NOT_FOUND")
    reply, body = http.send(
        "POST", "/duovec.v1.PrincipalService/CreatePrincipal", {"principalId": "bob"}, headers=alice
    )
    assert (reply.status, body["error"]["reason"]) == (403, "ADMIN_REQUIRED")
    client.access.revoke_api_key(alice["authorization"].removeprefix("Bearer duovec_")[:12])
    reply, body = http.send("GET", "/v1/models", headers=alice)
    assert (reply.status, body["error"]["reason"]) == (401, "API_KEY_REVOKED")


def test_a_quota_holds_here_too_and_says_when_to_come_back(http: Http, client: Client) -> None:
    client.access.create_principal("http-limited")
    limited = {"authorization": f"Bearer {client.access.create_api_key('http-limited').key}"}
    client.access.set_quota("http-limited", requests_per_s=0.5)
    reply, body = http.send("GET", "/v1/models", headers=limited)
    assert reply.status == 200
    while reply.status == 200:  # the next, where it comes within two seconds
        reply, body = http.send("GET", "/v1/models", headers=limited)
    assert (reply.status, body["error"]["code"], body["error"]["reason"]) == (
        429,
        "rate_limit_exceeded",
        "QUOTA_EXCEEDED",
    )
    assert 1 <= int(reply.headers["retry-after"]) <= 2
    assert 0 < int(reply.headers["retry-after-ms"]) <= 2000


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "API_KEY_MISSING"),
        ({"authorization": "Basic YTpi"}, "API_KEY_INVALID"),
        ({"authorization": "Bearer duovec_aaaaaaaaaaaa_" + "0" * 64}, "API_KEY_INVALID"),
    ],
)
@pytest.mark.parametrize(
    ("verb", "path"), [("GET", "/v1/models"), ("GET", "/v1/models/duovec"), ("POST", "/v1/embeddings")]
)
def test_every_route_but_health_takes_a_key(
    http: Http, verb: str, path: str, headers: dict[str, str], reason: str
) -> None:
    reply, body = http.send(verb, path, headers=headers)
    assert (reply.status, body["error"]["reason"], body["error"]["code"]) == (401, reason, "invalid_api_key")


def test_every_call_that_is_served_as_json_takes_a_key(http: Http) -> None:
    """Refused before its body is read, whatever it is; what is not served here is no secret."""
    refused = set()
    for method in METHODS.values():
        path = f"/{method.containing_service.full_name}/{method.name}"
        reply, body = http.send("POST", path, {"nonsense": 1}, headers={})
        if reply.status == 401:
            assert body["error"]["reason"] == "API_KEY_MISSING"
            refused.add(path)
        else:
            assert reply.status == 404
    assert {path for path in refused if "Search" in path} == {
        "/duovec.v1.SearchService/Search",
        "/duovec.v1.SearchService/RecordFeedback",
    }
    assert len(refused) == sum(
        not method.client_streaming and method.full_name.startswith("duovec.v1.")
        for method in METHODS.values()
        if method.containing_service.name != "EmbeddingService"
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b'{"model": "duovec", "input": "a", "dimensions": NaN}',
        b'{"model": "duovec", "input": "a", "dimensions": 1e999}',
        b'{"model": "duovec", "input": "a", "dimensions": 99999999999999999999999}',
        b'{"model": "duovec", "input": "\\ud800"}',
        b'{"model": "duovec", "input": "\xff\xfe"}',
        b'{"model": "duovec", "input": {"a": 1}}',
        b'{"model": "duovec", "input": [["a"]]}',
        b'{"model": "duovec", "input": [true]}',
        b'{"model": 7, "input": "a"}',
        b'{"model": "duovec"}',
        b'{"input": "a"}',
        b'{"model": "duovec", "input": "a", "": 1}',
        b"[" * 100_000,
        b'{"model": "duovec", "input": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"model": "duovec", "input": [' + b"1," * 3_000_000 + b"1]}",
        b'{"model": "duovec", "input": [' + b'"",' * 2_000_000 + b'""]}',
        b'{"model": "duovec", "input": "' + b"x" * 7_000_000 + b'"}',
    ],
    ids=range(22),
)
def test_what_is_no_request_is_400(http: Http, body: bytes) -> None:
    """Never 500, and never a vector."""
    reply, answer = http.send("POST", "/v1/embeddings", body)
    assert reply.status == 400
    assert answer["error"]["type"] == "invalid_request_error"
    assert len(answer["error"]["message"]) < 500


@pytest.mark.parametrize(("path", "most"), [("/v1/embeddings", 4096), ("/duovec.v1.SearchService/Search", 16_384)])
@pytest.mark.parametrize("filling", [b"[],", b"{},", b'"a",[0],'])
def test_a_body_of_too_many_parts_is_refused_before_it_is_parsed(
    http: Http, path: str, most: int, filling: bytes
) -> None:
    """Parsing it holds the process for as long as it takes; a body that has them in its strings is like any other."""
    reply, answer = http.send("POST", path, b'{"input": [' + filling * (7_000_000 // len(filling)) + b"[]]}")
    assert reply.status == 400
    assert f"has more than {most:,} of " in answer["error"]["message"]
    reply, answer = http.send("POST", path, b'{"input": "' + filling.replace(b'"', b'\\"') * 100_000 + b'"}')
    assert reply.status == 400
    assert "has more than" not in answer["error"]["message"]


def test_strings_without_an_end_are_looked_at_once(http: Http) -> None:
    """Of seven megabytes of escaped quotes, and of many parts before them."""
    reply, answer = http.send("POST", "/v1/embeddings", b"[" * 4096 + b'"' + b'\\"[' * 2_000_000)
    assert (reply.status, answer["error"]["reason"]) == (400, "INVALID_INPUT")


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"codebaseIds": 7}', b'{"none": 1}', b'{"query": "\\ud800"}', b'{"a":' * 5000, b"\xff"]
)
def test_what_is_no_message_is_400(http: Http, body: bytes) -> None:
    reply, answer = http.send("POST", "/duovec.v1.SearchService/Search", body)
    assert (reply.status, answer["error"]["reason"]) == (400, "INVALID_INPUT")


def test_ten_megabytes_are_413_before_they_are_read(http: Http) -> None:
    reply, answer = http.send("POST", "/v1/embeddings", b" " * 10_000_000)
    assert reply.status == 413
    assert "the limit" in answer["error"]["message"]
    assert http.send("GET", "/v1/models")[0].status == 200


def test_streams_and_vectors_are_not_had_as_messages(http: Http) -> None:
    for method in ("EmbeddingService/Embed", "IndexService/IndexChunks", "NoService/None"):
        reply, answer = http.send("POST", f"/duovec.v1.{method}", {})
        assert (reply.status, answer["error"]["reason"]) == (404, "NOT_FOUND")


def test_a_request_is_counted_logged_and_timed_like_a_call(http: Http, client: Client, stack: Stack) -> None:
    """Under one name a route, whatever is in its path."""
    key = {"authorization": f"Bearer {stack.api_key}"}
    reply, _ = http.send("GET", "/v1/models/nobody", headers=key | {"x-request-id": "mine-42", "duovec-timing": "1"})
    assert reply.headers["x-request-id"] == "mine-42"
    assert "database;dur=" in reply.headers["server-timing"] and "total;dur=" in reply.headers["server-timing"]
    path = stack.admin_key_file.parent / "logs" / "gateway.log"
    # The reply comes before its line, and the line after its count.
    log = until(path.read_text, lambda text: "request mine-42\n" in text)
    methods = {method.method: method for method in client.status().methods}
    assert methods["GET /v1/models/{model}"].failed_call_count >= 1
    assert not [name for name in methods if "nobody" in name]
    assert "GET /v1/models/{model} NOT_FOUND MODEL_NOT_FOUND in " in log
    assert "request mine-42" in log and "nobody" not in log
