"""Somebody can administer the service from its first start on, and nobody else learns the key."""

import asyncio
from pathlib import Path

import pytest

from gateway.errors import StartupError, Unauthenticated
from gateway.store.admin import ensure_admin_key
from gateway.store.api_key import ApiKey
from gateway.store.caller import acting_with
from gateway.store.pool import Database
from gateway.store.principals import PrincipalStore


async def whoami(database: Database, key: ApiKey) -> tuple[str, bool]:
    with acting_with(key):
        caller = await PrincipalStore(database).get("", timeout_s=5)
    return caller.principal_id, caller.is_admin


def read(file: Path) -> ApiKey:
    key = ApiKey.parse(file.read_text().strip())
    assert key is not None
    return key


async def revoke(database: Database, key: ApiKey) -> None:
    async with database.acquire(5) as connection:
        await connection.execute("UPDATE api_keys SET revoke_time = now() WHERE key_id = $1", key.key_id)


async def test_the_first_start_leaves_a_key_that_only_the_account_can_read(
    caller_database: Database, database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "new" / "admin.key"
    await ensure_admin_key(database, file=file)
    assert await whoami(caller_database, read(file)) == ("admin", True)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["admin.key"]


async def test_the_next_start_keeps_it(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "admin.key"
    await ensure_admin_key(database, file=file)
    first = file.read_text()
    await asyncio.gather(*(ensure_admin_key(database, file=file) for _ in range(4)))
    assert file.read_text() == first


@pytest.mark.parametrize("damage", ["missing", "revoked", "foreign", "garbage", "binary"])
async def test_a_file_without_a_valid_key_gets_a_new_one(
    caller_database: Database, database: Database, tmp_path: Path, damage: str
) -> None:
    """Whoever may start the service on its data may administer it; a lost file must not lock it for ever."""
    file = tmp_path / "admin.key"
    await ensure_admin_key(database, file=file)
    first = read(file)
    if damage == "missing":
        file.unlink()
    elif damage == "revoked":
        await revoke(database, first)
    else:
        file.write_bytes({"foreign": ApiKey.generate().text.encode(), "garbage": b"x"}.get(damage, b"\xff\xfe"))
    await ensure_admin_key(database, file=file)
    assert read(file) != first
    assert await whoami(caller_database, read(file)) == ("admin", True)
    if damage == "revoked":
        with pytest.raises(Unauthenticated):
            await whoami(caller_database, first)


async def test_the_operator_s_own_key_is_taken_while_nobody_has_one(
    caller_database: Database, database: Database
) -> None:
    """Afterwards it is a key as any other: another one is not taken, and once it is revoked it does not come back."""
    given, late = ApiKey.generate(), ApiKey.generate()
    await ensure_admin_key(database, given=given)
    await ensure_admin_key(database, given=late)
    assert await whoami(caller_database, given) == ("admin", True)
    with pytest.raises(Unauthenticated):
        await whoami(caller_database, late)
    await revoke(database, given)
    await ensure_admin_key(database, given=given)
    with pytest.raises(Unauthenticated):
        await whoami(caller_database, given)
    await ensure_admin_key(database, given=late)
    assert await whoami(caller_database, late) == ("admin", True)


@pytest.mark.parametrize("is_given", [True, False])
async def test_a_service_that_nobody_can_administer_starts_and_says_what_to_do(
    database: Database, is_given: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Its callers' keys are valid: a gateway that only moved to another machine must serve them."""
    given = ApiKey.generate()
    await ensure_admin_key(database, given=given)
    async with database.acquire(5) as connection:
        await connection.execute(
            "UPDATE api_keys SET create_time = now() - interval '2 days', expire_time = now() - interval '1 day'"
        )
        await connection.execute("UPDATE principals SET is_admin = false")
    await ensure_admin_key(database, given=given if is_given else None)
    [record] = caplog.records
    assert record.levelname == "ERROR"
    why = f"the key {given.key_id} of DUOVEC_ADMIN_KEY is revoked, expired or no administrator's"
    assert record.message.startswith(
        "nobody can administer the service: no valid administrator's key is left, and "
        f"{why if is_given else 'DUOVEC_ADMIN_KEY is not set'}; start a gateway with DUOVEC_ADMIN_KEY_FILE"
    )
    async with database.acquire(5) as connection:
        # What the refused key would have been given is not left behind.
        assert await connection.fetch("SELECT is_admin FROM principals") == [(False,)]


async def test_the_first_start_needs_a_key(database: Database) -> None:
    with pytest.raises(StartupError, match=r"nobody has a valid administrator's key; start a gateway with DUOVEC_ADM"):
        await ensure_admin_key(database)


async def test_a_file_that_cannot_be_used_is_named_and_nothing_is_stored(database: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match=r"/file/admin.key cannot be read: Not a directory"):
        await ensure_admin_key(database, file=tmp_path / "file" / "admin.key")
    async with database.acquire(5) as connection:
        assert await connection.fetchval("SELECT count(*) FROM api_keys") == 0
