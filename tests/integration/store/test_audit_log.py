"""The audit log: every change has its record, in its own transaction, and nobody's request touches a record."""

import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from store_callers import make_caller

from gateway.errors import AdminRequired, PermissionDenied
from gateway.store.access import Quota
from gateway.store.admin import ensure_admin_key
from gateway.store.api_key import ApiKey
from gateway.store.api_keys import ApiKeyStore
from gateway.store.audit import AuditFilter, AuditKeeper, AuditLog
from gateway.store.caller import acting_with, set_api_key
from gateway.store.codebases import CodebaseStore
from gateway.store.grants import GrantStore
from gateway.store.pool import Database
from gateway.store.principals import PrincipalStore
from gateway.store.spaces import SpaceStore

PEER = "ipv4:10.1.2.3:40112"
DAY = timedelta(days=1)


@pytest.fixture
async def admin(database: Database) -> ApiKey:
    return await make_caller(database, "boss", is_admin=True)


@pytest.fixture
async def quiet_log(database: Database, admin: ApiKey) -> None:
    """Forgets how the administrator came to be."""
    async with database.acquire(5) as connection:
        await connection.execute("TRUNCATE audit_events")


async def records(database: Database) -> list[tuple[str, str, dict[str, Any]]]:
    """Action, subject and details of every event, oldest first."""
    async with database.acquire(5) as connection:
        found = await connection.fetch(
            "SELECT action, subject, details::jsonb - 'expire_time' AS details FROM audit_events ORDER BY audit_key"
        )
    return [(record["action"], record["subject"], json.loads(record["details"])) for record in found]


async def test_every_change_has_its_record(
    caller_database: Database, database: Database, admin: ApiKey, quiet_log: None
) -> None:
    """Through the stores, as requests make them: the whole list, and nothing beside it."""
    principals, keys = PrincipalStore(caller_database), ApiKeyStore(caller_database)
    codebases, grants = CodebaseStore(caller_database), GrantStore(caller_database)
    with acting_with(admin):
        await principals.create("alice", "Alice", is_admin=False, timeout_s=5)
        await principals.set_quota("alice", Quota(5.0, 0), timeout_s=5)
        await principals.set_quota("alice", Quota(5.0, 0), timeout_s=5)  # changes nothing
        key, _ = await keys.create("alice", "laptop", None, timeout_s=5)
        second, _ = await keys.rotate(key.key_id, None, DAY, timeout_s=5)
        await keys.revoke(key.key_id, timeout_s=5)
        await keys.revoke(key.key_id, timeout_s=5)  # changes nothing
        await codebases.create("mine", "Mine", timeout_s=5)
        await grants.set("mine", "alice", "READ", timeout_s=5)
        await grants.set("mine", "alice", "WRITE", timeout_s=5)
        await grants.set("mine", "alice", "WRITE", timeout_s=5)  # changes nothing
        await grants.delete("mine", "alice", timeout_s=5)
        await grants.set("mine", "alice", "OWNER", timeout_s=5)
        await codebases.create("theirs", "Theirs", timeout_s=5)
        await grants.set("theirs", "alice", "READ", timeout_s=5)
        await codebases.delete("mine", timeout_s=5)
        await principals.delete("alice", timeout_s=5)
    assert await records(database) == [
        ("PRINCIPAL_CREATED", "principals/alice", {"admin": False}),
        (
            "QUOTA_SET",
            "principals/alice",
            {
                "requests_per_s": 5,
                "tokens_per_minute": 0,
                "former_requests_per_s": None,
                "former_tokens_per_minute": None,
            },
        ),
        ("KEY_CREATED", f"principals/alice/keys/{key.key_id}", {}),
        ("KEY_CREATED", f"principals/alice/keys/{second.key_id}", {}),
        ("KEY_EXPIRY_SET", f"principals/alice/keys/{key.key_id}", {}),
        ("KEY_REVOKED", f"principals/alice/keys/{key.key_id}", {}),
        ("CODEBASE_CREATED", "codebases/mine", {}),
        ("GRANT_SET", "codebases/mine/grants/boss", {"role": "OWNER"}),
        ("GRANT_SET", "codebases/mine/grants/alice", {"role": "READ"}),
        ("GRANT_SET", "codebases/mine/grants/alice", {"role": "WRITE", "former_role": "READ"}),
        ("GRANT_DELETED", "codebases/mine/grants/alice", {"role": "WRITE"}),
        ("GRANT_SET", "codebases/mine/grants/alice", {"role": "OWNER"}),
        ("CODEBASE_CREATED", "codebases/theirs", {}),
        ("GRANT_SET", "codebases/theirs/grants/boss", {"role": "OWNER"}),
        ("GRANT_SET", "codebases/theirs/grants/alice", {"role": "READ"}),
        ("CODEBASE_DELETED", "codebases/mine", {"grants": {"boss": "OWNER", "alice": "OWNER"}}),
        (
            "PRINCIPAL_DELETED",
            "principals/alice",
            {"keys": sorted([key.key_id, second.key_id]), "grants": {"theirs": "READ"}},
        ),
    ]
    async with database.acquire(5) as connection:
        everything = str([tuple(record) for record in await connection.fetch("SELECT * FROM audit_events")])
    for secret in (admin, key, second):
        assert secret.secret.hex() not in everything
        assert secret.secret_sha256.hex() not in everything


async def test_a_record_names_the_caller_its_key_and_its_peer(
    caller_database: Database, database: Database, admin: ApiKey, quiet_log: None
) -> None:
    set_api_key(admin, peer=PEER)
    await PrincipalStore(caller_database).create("alice", "Alice", is_admin=False, timeout_s=5)
    [row] = await AuditLog(caller_database).list(AuditFilter(), None, 10, timeout_s=5)
    assert (row.principal_id, row.key_id, row.peer) == ("boss", admin.key_id, PEER)
    assert timedelta(0) <= datetime.now(UTC) - row.create_time < timedelta(minutes=1)


async def test_changes_of_spaces_name_who_asked_though_the_system_makes_them(
    caller_database: Database, database: Database, admin: ApiKey, quiet_log: None
) -> None:
    """And what the service does by itself names nobody."""
    spaces = SpaceStore(database)
    first = await spaces.ensure_active("a" * 64, {})
    set_api_key(admin, peer=PEER)
    await PrincipalStore(caller_database).require_admin(timeout_s=5)
    second = await spaces.build("b" * 64, {}, timeout_s=5)
    await spaces.set_verification(second.space_key, {"passed": True, "chunk_count": 0})
    await spaces.activate(second.space_key, timeout_s=5)
    await spaces.activate(second.space_key, timeout_s=5)  # changes nothing
    await spaces.activate(first.space_key, timeout_s=5)
    async with database.acquire(5) as connection:
        await connection.execute("UPDATE spaces SET deactivate_time = now() - interval '1 hour'")
    await spaces.drop(second.space_key, timeout_s=20)
    rows = await AuditLog(caller_database).list(AuditFilter(), None, 10, timeout_s=5)
    assert [(row.action, row.subject[:8], row.principal_id, row.key_id, row.peer) for row in reversed(rows)] == [
        ("SPACE_BUILT", "spaces/a", "", "", ""),
        ("SPACE_BUILT", "spaces/b", "boss", admin.key_id, PEER),
        ("SPACE_ACTIVATED", "spaces/b", "boss", admin.key_id, PEER),
        ("SPACE_ROLLED_BACK", "spaces/a", "boss", admin.key_id, PEER),
        ("SPACE_DROPPED", "spaces/b", "boss", admin.key_id, PEER),
    ]


async def test_the_first_administrator_is_the_service_s_own_doing(
    caller_database: Database, database: Database
) -> None:
    key = ApiKey.generate()
    await ensure_admin_key(database, given=key)
    with acting_with(key):
        rows = await AuditLog(caller_database).list(AuditFilter(about="admin"), None, 10, timeout_s=5)
    assert [(row.action, row.principal_id) for row in rows] == [("KEY_CREATED", ""), ("PRINCIPAL_CREATED", "")]


async def test_a_change_that_is_undone_leaves_no_record(
    caller_database: Database, database: Database, admin: ApiKey, quiet_log: None
) -> None:
    """The record is of the transaction, and goes with it."""
    with acting_with(admin), contextlib.suppress(ZeroDivisionError):
        async with caller_database.acquire(5) as connection:
            await connection.execute("INSERT INTO principals (principal_id, display_name) VALUES ('alice', 'Alice')")
            raise ZeroDivisionError
    assert await records(database) == []


@pytest.mark.parametrize("is_admin", [False, True])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO audit_events (principal_id, key_id, peer, action, subject, details)"
        " VALUES ('boss', '', '', 'GRANT_SET', 'codebases/mine/grants/me', '{}')",
        "UPDATE audit_events SET principal_id = 'somebody-else'",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
        "SELECT write_audit_event('GRANT_SET', 'codebases/mine/grants/me', '{}')",
        "ALTER TABLE principals DISABLE TRIGGER audit_written",
        "DROP TRIGGER audit ON grants",
        "SET session_replication_role = 'replica'",
    ],
)
async def test_no_request_writes_changes_or_deletes_a_record(
    caller_database: Database, database: Database, admin: ApiKey, statement: str, is_admin: bool
) -> None:
    """Not even an administrator's, by any statement that the roles of requests could run."""
    caller = admin if is_admin else await make_caller(database, "alice")
    before = await records(database)
    assert before
    with acting_with(caller), pytest.raises((PermissionDenied, asyncpg.InsufficientPrivilegeError)):
        async with caller_database.acquire(5) as connection:
            await connection.execute(statement)
    assert await records(database) == before


async def test_only_administrators_read_it(caller_database: Database, database: Database, admin: ApiKey) -> None:
    alice = await make_caller(database, "alice")
    with acting_with(alice):
        with pytest.raises(AdminRequired):
            await AuditLog(caller_database).list(AuditFilter(), None, 10, timeout_s=5)
        with pytest.raises((PermissionDenied, asyncpg.InsufficientPrivilegeError)):
            async with caller_database.acquire(5) as connection:
                await connection.fetch("SELECT * FROM audit_events")


async def test_filters_and_pages(caller_database: Database, database: Database, admin: ApiKey, quiet_log: None) -> None:
    """Newest first; who, what, about whom, and when."""
    other = await make_caller(database, "other-boss", is_admin=True)
    principals, log = PrincipalStore(caller_database), AuditLog(caller_database)
    for caller, name in ((admin, "a"), (other, "b"), (admin, "ab")):
        with acting_with(caller):
            await principals.create(name, name, is_admin=False, timeout_s=5)

    async def subjects(before: int | None = None, limit: int = 100, **found_by: Any) -> list[str]:
        with acting_with(admin):
            rows = await log.list(AuditFilter(**found_by), before, limit, timeout_s=5)
        return [row.subject for row in rows]

    assert await subjects(action="PRINCIPAL_CREATED") == [
        f"principals/{name}" for name in ("ab", "b", "a", "other-boss")
    ]
    assert await subjects(principal_id="boss") == ["principals/ab", "principals/a"]
    assert await subjects(about="a") == ["principals/a"]
    assert await subjects(about=other.key_id) == [f"principals/other-boss/keys/{other.key_id}"]
    assert await subjects(about="principals", action="KEY_CREATED") == [f"principals/other-boss/keys/{other.key_id}"]
    assert await subjects(begin_time=datetime.now(UTC) + DAY) == []
    assert await subjects(end_time=datetime.now(UTC) - DAY) == []
    assert len(await subjects(begin_time=datetime.now(UTC) - DAY, end_time=datetime.now(UTC) + DAY)) == 5
    with acting_with(admin):
        first = await log.list(AuditFilter(), None, 2, timeout_s=5)
    assert [row.subject for row in first] + await subjects(before=first[-1].audit_key) == await subjects()


async def test_what_is_older_than_the_retention_period_is_deleted(
    caller_database: Database, database: Database, admin: ApiKey, quiet_log: None
) -> None:
    with acting_with(admin):
        for name in ("old", "new"):
            await PrincipalStore(caller_database).create(name, name, is_admin=False, timeout_s=5)
    async with database.acquire(5) as connection:
        await connection.execute(
            "UPDATE audit_events SET create_time = now() - interval '31 days' WHERE subject = 'principals/old'"
        )
    keeper = AuditKeeper(database, retention=30 * DAY)
    assert await keeper.delete_expired() == 1
    assert await keeper.delete_expired() == 0
    assert [subject for _, subject, _ in await records(database)] == ["principals/new"]
