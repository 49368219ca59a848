import asyncio
from dataclasses import replace

import asyncpg
import pytest

from gateway.errors import DatabaseUnavailable, DuovecError, StartupError
from gateway.store.migrations import load_migrations, migrate, roll_back
from gateway.store.pool import Database

_CATALOG = """
SELECT format('%s.%s %s %s %s', table_name, column_name, udt_name, is_nullable, collation_name) AS line
FROM information_schema.columns WHERE table_schema = 'public'
UNION SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION SELECT format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint
      WHERE connamespace = 'public'::regnamespace
UNION SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION SELECT format('policy %s %s', polrelid::regclass, polname) FROM pg_policy
UNION SELECT format('row security %s', oid::regclass) FROM pg_class WHERE relrowsecurity
UNION SELECT format('function %s', p.oid::regprocedure) FROM pg_proc p
      LEFT JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e'
      WHERE p.pronamespace = 'public'::regnamespace AND d.objid IS NULL
UNION SELECT format('grant %s %s %s %s', r.table_name, r.grantee, r.privilege_type, r.column_name)
      FROM information_schema.column_privileges r WHERE r.grantee IN ('duovec_caller', 'duovec_admin')
ORDER BY line
"""


async def schema(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    lines = [record["line"] for record in await connection.fetch(_CATALOG)]
    await connection.close()
    return lines


async def test_up_down_up_gives_the_same_schema(empty_url: str) -> None:
    versions = [migration.version for migration in load_migrations()]
    assert await migrate(empty_url) == versions
    first = await schema(empty_url)
    assert await migrate(empty_url) == []
    assert await roll_back(empty_url, 0) == versions[::-1]
    left = [line for line in await schema(empty_url) if "schema_migrations" not in line]
    assert left == []
    assert await migrate(empty_url) == versions
    assert await schema(empty_url) == first
    assert any(line.startswith("embeddings.embedding halfvec") for line in first)


async def test_two_processes_that_migrate_at_once_take_turns(empty_url: str) -> None:
    results = await asyncio.gather(migrate(empty_url), migrate(empty_url))
    assert sorted(results) == [[], [migration.version for migration in load_migrations()]]


async def test_a_migration_that_was_edited_is_refused(url: str) -> None:
    first, *others = load_migrations()
    with pytest.raises(StartupError, match="0001_initial was edited"):
        await migrate(url, migrations=[replace(first, up_sql=first.up_sql + "\n"), *others])


async def test_a_newer_database_is_refused(url: str) -> None:
    with pytest.raises(StartupError, match="0001_initial, which this duovec does not know"):
        await migrate(url, migrations=[])


async def test_a_database_that_lacks_one_in_between_is_refused(url: str) -> None:
    """Applied now it would come after those that were written for it."""
    connection = await asyncpg.connect(url)
    await connection.execute("DELETE FROM schema_migrations WHERE version = 5")
    await connection.close()
    before = await schema(url)
    with pytest.raises(StartupError, match="the database lacks migration 0005_feedback below 00"):
        await migrate(url)
    assert await schema(url) == before


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("SELECT 1 / 0", "division by zero"),
        ("CREATE TABLE codebases (a int)", 'relation "codebases" already exists'),
        ("SET LOCAL ROLE duovec_caller; DELETE FROM spaces", "permission denied for table spaces"),
        ("DO $$ BEGIN RAISE 'no' USING HINT = 'never'; END $$", "no; HINT:  never"),
    ],
)
async def test_a_migration_that_fails_leaves_nothing_and_is_named_in_one_line(url: str, fault: str, why: str) -> None:
    broken = replace(load_migrations()[0], version=9999, up_sql=f"CREATE TABLE half (a int); {fault}")
    before = await schema(url)
    with pytest.raises(StartupError) as failure:
        await migrate(url, migrations=[*load_migrations(), broken])
    assert str(failure.value) == (
        f"PostgreSQL refuses migration 9999_initial, of which nothing is left ({why}); mend that, and start again"
    )
    assert await schema(url) == before


@pytest.mark.parametrize(
    ("wrong", "refusal", "said"),
    [
        ("mysql://u:hidden@127.0.0.1/x", StartupError, "DUOVEC_DATABASE_URL leads to no connection: invalid DSN"),
        ("duovec", StartupError, "DUOVEC_DATABASE_URL leads to no connection: invalid DSN"),
        ("{url}?sslmode=sometimes", StartupError, "DUOVEC_DATABASE_URL leads to no connection: `sslmode` parameter"),
        ("{url}?nonsense=1", StartupError, "DUOVEC_DATABASE_URL leads to no connection: unrecognized configuration"),
        ("postgresql://u:hidden/1@127.0.0.1/x", StartupError, "DUOVEC_DATABASE_URL is not of the form postgresql://"),
        ("postgresql://u:p@127.0.0.1:99999/x", StartupError, "DUOVEC_DATABASE_URL is not of the form postgresql://"),
        ("{server}/nowhere", DatabaseUnavailable, 'PostgreSQL cannot be reached: database "nowhere" does not exist'),
        (
            "{url}?target_session_attrs=standby",
            DatabaseUnavailable,
            "no connection to PostgreSQL could be made: None of",
        ),
        ("{stranger}", DatabaseUnavailable, "PostgreSQL cannot be reached: password authentication failed for user"),
    ],
)
async def test_a_url_that_leads_nowhere_is_refused_in_one_line(
    empty_url: str, wrong: str, refusal: type[DuovecError], said: str
) -> None:
    """Nothing of a password stands in it, whatever sign it was cut at."""
    server, _, _ = empty_url.rpartition("/")
    stranger = empty_url.replace("//", "//stranger-of-", 1)
    with pytest.raises(refusal) as failure:
        await migrate(wrong.format(url=empty_url, server=server, stranger=stranger))
    assert str(failure.value).startswith(said)
    assert "\n" not in str(failure.value)
    assert "hidden" not in str(failure.value)


async def test_a_password_that_was_changed_makes_the_database_unavailable(url: str) -> None:
    """No fault of the gateway, which goes on when it is right again."""
    database = (await Database.connect(url, min_size=0)).as_system()
    connection = await asyncpg.connect(url)
    password = (await connection.fetchrow("SELECT rolpassword FROM pg_authid WHERE rolname = current_user"))[0]
    try:
        await connection.execute("ALTER ROLE CURRENT_USER PASSWORD 'another'")
        with pytest.raises(DatabaseUnavailable, match="password authentication failed"):
            async with database.acquire(5):
                pytest.fail("the password is wrong")
    finally:
        await connection.execute(f"ALTER ROLE CURRENT_USER PASSWORD '{password}'")
        await connection.close()
    async with database.acquire(5) as lent:
        assert await lent.fetchval("SELECT 1") == 1
    await database.close()


async def test_a_pool_on_a_database_without_pgvector_says_to_migrate(empty_url: str) -> None:
    with pytest.raises(StartupError, match="run the migrations first"):
        await Database.connect(empty_url)
