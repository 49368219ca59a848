"""API keys in the database: made, limited, rotated, expired; and a schema that an ordinary account owns."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from store_callers import make_caller, set_role

from gateway.errors import (
    AdminRequired,
    ApiKeyExpired,
    ApiKeyNotFound,
    InvalidInput,
    NotFound,
    PrincipalExists,
    PrincipalNotFound,
)
from gateway.store.api_key import ApiKey
from gateway.store.api_keys import ApiKeyStore
from gateway.store.caller import acting_with
from gateway.store.codebases import CodebaseStore
from gateway.store.migrations import migrate, roll_back
from gateway.store.pool import Database
from gateway.store.principals import PrincipalStore
from gateway.store.spaces import SpaceStore

DAY = timedelta(days=1)


@pytest.fixture
async def admin(database: Database) -> ApiKey:
    return await make_caller(database, "boss", is_admin=True)


@pytest.fixture
async def alice(database: Database) -> ApiKey:
    return await make_caller(database, "alice")


async def expire(database: Database, key: ApiKey) -> None:
    async with database.acquire(5) as connection:
        await connection.execute(
            "UPDATE api_keys SET expire_time = now() - interval '1 second' WHERE key_id = $1", key.key_id
        )


async def test_what_is_stored_of_a_key_is_its_id_and_a_hash(
    caller_database: Database, database: Database, alice: ApiKey
) -> None:
    """Who reads the database, or a backup of it, has nobody's key."""
    with acting_with(alice):
        key, row = await ApiKeyStore(caller_database).create("", "laptop", None, timeout_s=5)
    assert (row.key_id, row.principal_id, row.display_name, row.expire_time, row.revoke_time) == (
        key.key_id,
        "alice",
        "laptop",
        None,
        None,
    )
    async with database.acquire(5) as connection:
        stored = await connection.fetchrow("SELECT * FROM api_keys WHERE key_id = $1", key.key_id)
    assert stored is not None
    assert key.secret not in [value for value in stored.values() if isinstance(value, bytes)]
    assert key.secret.hex() not in str(stored)
    with acting_with(key):
        assert (await PrincipalStore(caller_database).get("", timeout_s=5)).principal_id == "alice"


async def test_an_expired_key_is_refused_and_named(
    caller_database: Database, database: Database, alice: ApiKey
) -> None:
    await expire(database, alice)
    with acting_with(alice), pytest.raises(ApiKeyExpired, match=f"the API key {alice.key_id} expired at 20.* UTC"):
        await PrincipalStore(caller_database).check_key(timeout_s=5)


async def test_a_key_for_oneself_ends_with_the_key_that_made_it(
    caller_database: Database, database: Database, admin: ApiKey, alice: ApiKey
) -> None:
    """A key that was lent for a day must not become one for ever; an administrator may make the longer one."""
    keys, tomorrow = ApiKeyStore(caller_database), datetime.now(UTC) + DAY
    with acting_with(alice):
        lent, _ = await keys.create("", "", tomorrow, timeout_s=5)
    with acting_with(lent):
        _, row = await keys.create("", "", None, timeout_s=5)
        assert row.expire_time == tomorrow
        with pytest.raises(InvalidInput, match="expire_time: is after .* when the key of this call expires"):
            await keys.create("alice", "", tomorrow + DAY, timeout_s=5)
        with pytest.raises(InvalidInput, match="expire_time"):
            await keys.rotate(lent.key_id, tomorrow + DAY, timedelta(0), timeout_s=5)
        _, row = await keys.rotate(lent.key_id, None, DAY, timeout_s=5)
        assert row.expire_time == tomorrow
    with acting_with(admin):
        _, row = await keys.create("alice", "", tomorrow + DAY, timeout_s=5)
        assert row.expire_time == tomorrow + DAY


async def test_a_rotation_never_prolongs_the_old_key(caller_database: Database, alice: ApiKey) -> None:
    keys, soon = ApiKeyStore(caller_database), datetime.now(UTC) + timedelta(hours=1)
    with acting_with(alice):
        old, _ = await keys.create("", "build", soon, timeout_s=5)
        new, row = await keys.rotate(old.key_id, None, 2 * DAY, timeout_s=5)
        rows = {row.key_id: row for row in await keys.list("", "", 10, timeout_s=5)}
        assert rows[old.key_id].expire_time == row.expire_time == soon
        assert (row.display_name, new.key_id != old.key_id) == ("build", True)
        await keys.revoke(old.key_id, timeout_s=5)
        with pytest.raises(ApiKeyNotFound, match="is not valid any more; create another"):
            await keys.rotate(old.key_id, None, DAY, timeout_s=5)


async def test_keys_are_listed_page_by_page(caller_database: Database, admin: ApiKey, alice: ApiKey) -> None:
    keys = ApiKeyStore(caller_database)
    with acting_with(admin):
        made = [(await keys.create("alice", "", None, timeout_s=5))[0].key_id for _ in range(4)]
        pages = await keys.list("alice", "", 3, timeout_s=5)
        pages += await keys.list("alice", pages[-1].key_id, 3, timeout_s=5)
    assert [row.key_id for row in pages] == sorted([alice.key_id, *made])


async def test_others_keys_are_out_of_reach(
    caller_database: Database, database: Database, admin: ApiKey, alice: ApiKey
) -> None:
    """Also those of a principal whom one sees, because it reads what one owns."""
    keys = ApiKeyStore(caller_database)
    key = (await CodebaseStore(database).create("demo", "x", timeout_s=5)).codebase_key
    bob = await make_caller(database, "bob")
    await set_role(database, alice, key, "OWNER")
    with acting_with(alice), pytest.raises(PrincipalNotFound):
        await keys.list("bob", "", 10, timeout_s=5)
    await set_role(database, bob, key, "READ")
    with acting_with(alice):
        for attempt in (keys.list("bob", "", 10, timeout_s=5), keys.create("bob", "", None, timeout_s=5)):
            with pytest.raises(AdminRequired, match="only an administrator may do this, and 'alice' is none"):
                await attempt
        for attempt in (
            keys.revoke(bob.key_id, timeout_s=5),
            keys.rotate(bob.key_id, None, DAY, timeout_s=5),
        ):
            with pytest.raises(ApiKeyNotFound):
                await attempt
    with acting_with(bob):
        await PrincipalStore(caller_database).check_key(timeout_s=5)


async def test_a_principal_is_created_once_and_deleted_with_its_keys(
    caller_database: Database, admin: ApiKey, alice: ApiKey
) -> None:
    principals = PrincipalStore(caller_database)
    with acting_with(admin):
        with pytest.raises(PrincipalExists, match="'alice' exists already"):
            await principals.create("alice", "Alice", is_admin=False, timeout_s=5)
        await principals.delete("alice", timeout_s=5)
        with pytest.raises(PrincipalNotFound):
            await principals.get("alice", timeout_s=5)
        with pytest.raises(ApiKeyNotFound):
            await ApiKeyStore(caller_database).revoke(alice.key_id, timeout_s=5)


@pytest.fixture
async def ordinary_url(empty_url: str) -> AsyncIterator[str]:
    """A database that an account without superuser's rights owns, as managed PostgreSQL gives it."""
    name = empty_url.rsplit("/", 1)[1]
    connection = await asyncpg.connect(empty_url)
    await connection.execute("CREATE EXTENSION vector")
    await connection.execute("CREATE ROLE ordinary LOGIN CREATEROLE PASSWORD 'ordinary'")
    await connection.execute(f"ALTER DATABASE {name} OWNER TO ordinary")
    for role in ("duovec_caller", "duovec_admin"):
        # What one gets by creating a role; another test may have created it before.
        with contextlib.suppress(asyncpg.DuplicateObjectError):
            await connection.execute(f"CREATE ROLE {role} NOLOGIN")
        await connection.execute(f"GRANT {role} TO ordinary WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
    yield f"postgresql://ordinary:ordinary@{empty_url.rsplit('@', 1)[1]}"
    await connection.execute(f"ALTER DATABASE {name} OWNER TO duovec; REASSIGN OWNED BY ordinary TO duovec")
    await connection.execute("DROP OWNED BY ordinary; DROP ROLE ordinary")
    await connection.close()


async def test_an_owner_that_is_no_superuser_will_do(ordinary_url: str) -> None:
    """The owner does the system's work; requests are held as under a superuser."""
    await migrate(ordinary_url)
    database = await Database.connect(ordinary_url)
    system = database.as_system()
    space = await SpaceStore(system).ensure_active("a" * 64, {})
    caller = await make_caller(system, "caller")
    await CodebaseStore(system).create("others", "x", timeout_s=5)
    with acting_with(caller):
        await CodebaseStore(database).create("mine", "x", timeout_s=5)
        rows = await CodebaseStore(database).list("", 10, space_key=space.space_key, timeout_s=5)
        assert [row.codebase_id for row in rows] == ["mine"]
        with pytest.raises(NotFound):
            await CodebaseStore(database).delete("others", timeout_s=5)
        await CodebaseStore(database).delete("mine", timeout_s=5)
    await database.close()
    await roll_back(ordinary_url, 0)
