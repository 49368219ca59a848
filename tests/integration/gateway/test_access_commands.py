"""`duovec principal`, `duovec key`, `duovec grant` and `duovec audit` against the real service."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.main import app
from gateway.client.client import Client
from gateway.local.stack import Stack

Duovec = Callable[..., Result]


@pytest.fixture
def duovec(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Duovec]:
    """Runs a command as the administrator, or with another key."""
    monkeypatch.setenv("DUOVEC_ENDPOINT", stack.endpoint)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, key: str = stack.api_key) -> Result:
        return CliRunner().invoke(app, list(arguments), env={"DUOVEC_API_KEY": key})

    yield run
    run("principal", "delete", "carol")


def good(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_from_a_new_principal_to_a_revoked_key(duovec: Duovec, client: Client) -> None:
    """The whole life of a grant and of two keys, by commands alone."""
    assert good(duovec("principal", "create", "carol", "--name", "Carol", "--json"))["admin"] is False
    assert "carol" in [row["principal_id"] for row in good(duovec("principal", "list", "--json"))["principals"]]
    made = duovec("key", "create", "carol", "--name", "laptop", "--expire-days", "1")
    assert made.exit_code == 0
    # Alone on stdout, for $(…).
    key = made.stdout.strip()
    assert made.stderr.startswith("note: key of carol, expires 20")
    client.create_codebase("carols")
    try:
        refused = duovec("grant", "list", "carols", key=key)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert refused.stderr == "error: codebase 'carols' does not exist [CODEBASE_NOT_FOUND]\n"
        assert duovec("grant", "add", "carols", "carol", "read").stdout == "carol has read on carols\n"
        assert good(duovec("status", "--json", key=key))["codebases"][0]["codebase_id"] == "carols"
        refused = duovec("grant", "add", "carols", "carol", "owner", key=key)
        assert "takes the role OWNER on codebase 'carols'; yours is READ [ROLE_REQUIRED]" in refused.stderr
        grants = {
            row["principal_id"]: row["role"] for row in good(duovec("grant", "list", "carols", "--json"))["grants"]
        }
        assert grants == {"admin": "owner", "carol": "read"}
        assert "carol" in duovec("grant", "list", "carols").stdout
        assert duovec("grant", "remove", "carols", "carol").exit_code == 0
        assert good(duovec("status", "--json", key=key))["codebases"] == []
    finally:
        client.delete_codebase("carols")
    key_id = key.split("_")[1]
    rotated = good(duovec("key", "rotate", key_id, "--keep-hours", "1", "--json", key=key))
    listed = {row["key_id"]: row for row in good(duovec("key", "list", "carol", "--json"))["api_keys"]}
    assert set(listed) == {key_id, rotated["key_id"]}
    assert listed[rotated["key_id"]]["expire_time"] == rotated["expire_time"]
    table = duovec("key", "list", key=rotated["key"]).stdout
    assert key_id in table
    assert "laptop" in table
    assert duovec("key", "revoke", key_id, key=rotated["key"]).stdout == f"revoked {key_id}\n"
    refused = duovec("key", "list", key=key)
    assert refused.stderr == f"error: the API key {key_id} was revoked; use another [API_KEY_REVOKED]\n"
    assert duovec("principal", "delete", "carol").stdout == "deleted carol\n"
    assert "[API_KEY_INVALID]" in duovec("key", "list", key=rotated["key"]).stderr


def test_the_audit_log_shows_who_did_what_from_where(duovec: Duovec, client: Client) -> None:
    """By command: the names are those of the administrator's key, and of the connection as the gateway saw it."""
    admin_key_id = client.access.create_api_key("admin").api_key.key_id
    duovec("principal", "create", "carol")
    key = duovec("key", "create", "carol").stdout.strip()
    duovec("principal", "limit", "carol", "--requests-per-s", "20")
    duovec("key", "revoke", key.split("_")[1], key=key)
    events = good(duovec("audit", "--about", "carol", "--limit", "4", "--json"))["events"]
    assert [(event["action"], event["principal_id"]) for event in events] == [
        ("KEY_REVOKED", "carol"),
        ("QUOTA_SET", "admin"),
        ("KEY_CREATED", "admin"),
        ("PRINCIPAL_CREATED", "admin"),
    ]
    assert events[0]["key_id"] == key.split("_")[1]
    assert events[0]["subject"] == f"principals/carol/keys/{events[0]['key_id']}"
    assert events[1]["details"]["requests_per_s"] == 20
    assert all(event["peer"].startswith("ipv4:127.0.0.1:") for event in events)
    assert [event["event_id"] for event in events] == sorted((event["event_id"] for event in events), reverse=True)
    by_carol = good(duovec("audit", "--by", "carol", "--json"))["events"]
    assert by_carol[0] == events[0]
    one = good(duovec("audit", "--action", "KEY_CREATED", "--about", admin_key_id, "--since", "2026-01-01", "--json"))
    assert [event["subject"] for event in one["events"]] == [f"principals/admin/keys/{admin_key_id}"]
    assert good(duovec("audit", "--until", "2026-01-01", "--json")) == {"events": []}
    table = duovec("audit", "--about", "carol").stdout
    assert "QUOTA_SET" in table
    assert key.split("_")[2] not in table
    client.access.revoke_api_key(admin_key_id)
    # Further than one page of the service.
    assert len({event.event_id for event in client.access.list_audit_events()}) >= 6


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("grant", "add", "x", "y", "admin"), 2, "'admin' is not one of"),
        (("key", "create", "--expire-days", "0"), 2, "--expire-days"),
        (("key", "rotate", "000000000000", "--keep-hours", "721"), 2, "--keep-hours"),
        (("key", "revoke", "000000000000"), 1, "API key '000000000000' does not exist"),
        (("key", "revoke", "duovec_secret"), 1, "key_id: is not 12 of a-z and 0-9"),
        (("principal", "create", "No Slug"), 1, "principal_id: is 'No Slug'"),
        (("principal", "limit", "x", "--requests-per-s", "-1"), 2, "--requests-per-s"),
        (("principal", "limit", "nobody-here"), 1, "principal 'nobody-here' does not exist"),
        (("audit", "--about", "a b"), 1, "about: is 'a b'; send an id or a fingerprint, or nothing"),
        (("audit", "--action", "grant"), 1, "action: is 'grant'; send one such as GRANT_SET, or nothing"),
        (("audit", "--since", "yesterday"), 2, "--since"),
        (("principal", "create", "admin"), 1, "principal 'admin' exists already"),
        (("grant", "add", "x", "nobody-here", "read"), 1, "codebase 'x' does not exist"),
    ],
)
def test_wrong_use_is_said_in_a_line(duovec: Duovec, arguments: tuple[str, ...], exit_code: int, message: str) -> None:
    result = duovec(*arguments)
    assert result.exit_code == exit_code
    assert message in result.stderr
    assert "Traceback" not in result.output
