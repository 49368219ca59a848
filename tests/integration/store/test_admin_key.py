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
    with pytest.raises(StartupError, match=f"the key {given.key_id} of DUOVEC_ADMIN_KEY was used before, and is rev"):
        await ensure_admin_key(database, given=given)
    await ensure_admin_key(database, given=late)
    assert await whoami(caller_database, late) == ("admin", True)


async def test_an_expired_key_of_the_operator_is_not_said_to_be_revoked_alone(database: Database) -> None:
    """Nobody else has a valid one; who reads the line looks for what became of this one."""
    given = ApiKey.generate()
    await ensure_admin_key(database, given=given)
    async with database.acquire(5) as connection:
        await connection.execute(
            "UPDATE api_keys SET create_time = now() - interval '2 days', expire_time = now() - interval '1 day'"
        )
    with pytest.raises(StartupError) as refused:
        await ensure_admin_key(database, given=given)
    assert str(refused.value) == (
        f"the key {given.key_id} of DUOVEC_ADMIN_KEY was used before, and is revoked, expired or no administrator's; "
        "choose another"
    )


async def test_without_any_key_the_service_does_not_start(database: Database) -> None:
    with pytest.raises(StartupError, match=r"nobody has a valid administrator's key; set DUOVEC_ADMIN_KEY_FILE"):
        await ensure_admin_key(database)


async def test_a_file_that_cannot_be_used_is_named_and_nothing_is_stored(database: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match=r"/file/admin.key cannot be read: Not a directory"):
        await ensure_admin_key(database, file=tmp_path / "file" / "admin.key")
    async with database.acquire(5) as connection:
        assert await connection.fetchval("SELECT count(*) FROM api_keys") == 0
