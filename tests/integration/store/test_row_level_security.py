"""What the database itself holds a request to, whatever the gateway forgets to check."""

import contextlib
import hmac
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from store_callers import make_caller, set_role
from store_samples import make_chunk, make_vectors

from gateway.errors import AdminRequired, GrantNotFound, NotFound, PermissionDenied, Unauthenticated
from gateway.store import caller as caller_module
from gateway.store.api_key import ApiKey
from gateway.store.caller import acting_with
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.grants import GrantStore
from gateway.store.pool import Database
from gateway.store.rows import FileSelector, SearchQuery, SpaceRow
from gateway.store.search import SearchStore
from gateway.store.search_plan import Method, Plan


@pytest.fixture
async def stored(database: Database, space: SpaceRow, codebase_key: int) -> int:
    """The key of a codebase with three chunks, which belongs to nobody."""
    await ChunkStore(database).insert(
        codebase_key, space.space_key, [make_chunk(i) for i in range(3)], make_vectors(3), timeout_s=5
    )
    return codebase_key


@pytest.fixture
async def outsider(database: Database) -> ApiKey:
    return await make_caller(database, "outsider")


async def contents(database: Database) -> list[tuple[Any, ...]]:
    """Every row that a write might change."""
    rows: list[tuple[Any, ...]] = []
    async with database.acquire(5) as connection:
        for table in ("codebases", "chunks", "embeddings", "grants", "principals", "api_keys", "revisions"):
            records = await connection.fetch(f"SELECT * FROM {table} ORDER BY 1")
            rows += [tuple(map(str, record.values())) for record in records]
    return rows


async def test_every_table_that_requests_may_touch_is_under_row_level_security(database: Database) -> None:
    """A migration that adds a table adds its policies."""
    async with database.acquire(5) as connection:
        records = await connection.fetch(
            "SELECT c.relname, c.relrowsecurity, array_agg(p.polname) AS names"
            " FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid"
            " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')"
            " AND (has_any_column_privilege('duovec_caller', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')"
            "      OR has_table_privilege('duovec_caller', c.oid, 'DELETE, TRUNCATE'))"
            " GROUP BY c.relname, c.relrowsecurity"
        )
    secured = {record["relname"] for record in records if record["relrowsecurity"]}
    assert secured >= {"codebases", "chunks", "embeddings", "principals", "api_keys", "grants"}
    assert {record["relname"] for record in records} == secured
    for record in records:
        if record["relrowsecurity"]:
            assert {"admin_all", "caller_select"} <= set(record["names"]) or record["names"] == ["own_rows"]


async def test_words_of_chunks_are_found_through_functions_that_know_who_asks(
    caller_database: Database, database: Database, stored: int, outsider: ApiKey
) -> None:
    """The words of a chunk tell most of its source. No policy holds the functions' owner, so they check themselves."""
    admin = await make_caller(database, "admin", is_admin=True)
    async with database.acquire(5) as connection:
        await connection.execute("INSERT INTO word_counts VALUES ($1, 'def', 3)", stored)
        functions = await connection.fetch(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef"
            " AND has_function_privilege('duovec_caller', oid, 'EXECUTE') AND proargtypes[0] = 'bigint[]'::regtype"
        )
    statements = {
        "chunk_words": "SELECT count(*) FROM chunk_words WHERE codebase_key = $1",
        "word_counts": "SELECT 3 * count(*) FROM word_counts WHERE codebase_key = $1",
        "chunks_with_words": "SELECT count(*) FROM chunks_with_words(ARRAY[$1::bigint], 'def')",
        "word_ranks": "SELECT count(*) FROM word_ranks(ARRAY[$1::bigint], ARRAY['def'], '{1, 1, 1, 1}')",
    }
    assert {record["proname"] for record in functions} == set(statements) - {"chunk_words", "word_counts"}

    async def counts(asked: Database) -> dict[str, int]:
        async with asked.acquire(5) as connection:
            return {name: await connection.fetchval(sql, stored) for name, sql in statements.items()}

    for caller, role, count in ((outsider, None, 0), (outsider, "READ", 3), (outsider, None, 0), (admin, None, 3)):
        if caller is outsider:
            await set_role(database, outsider, stored, role)
        with acting_with(caller):
            assert await counts(caller_database) == dict.fromkeys(statements, count), (caller, role)
    assert await counts(database) == dict.fromkeys(statements, 3)


async def test_the_roles_of_requests_own_nothing_and_bypass_nothing(database: Database) -> None:
    """Row-level security holds neither owners nor those who bypass it."""
    async with database.acquire(5) as connection:
        roles = await connection.fetch(
            "SELECT rolsuper, rolbypassrls, rolcanlogin, rolcreaterole,"
            " EXISTS (SELECT FROM pg_class WHERE relowner = r.oid) AS owns,"
            " EXISTS (SELECT FROM pg_auth_members WHERE member = r.oid) AS inherits"
            " FROM pg_roles r WHERE rolname IN ('duovec_caller', 'duovec_admin')"
        )
    assert len(roles) == 2
    assert [list(role.values()) for role in roles] == [[False] * 6] * 2


async def test_a_store_that_is_asked_by_nobody_answers_nothing(caller_database: Database, stored: int) -> None:
    """A request whose key was forgotten on the way is a fault of ours, and must not become a request of the system."""
    with pytest.raises(RuntimeError, match="asked by nobody"):
        await CodebaseStore(caller_database).list("", 10, space_key=1, timeout_s=5)


async def test_without_a_grant_nothing_is_read(
    caller_database: Database, stored: int, space: SpaceRow, outsider: ApiKey
) -> None:
    """The stores are called with the keys of rows, as after a check that was forgotten."""
    chunks, row, vector_D = ChunkStore(caller_database), make_chunk(1), make_vectors(1)[0]
    with acting_with(outsider):
        existing = await chunks.find_existing(stored, space.space_key, [row])
        assert (existing.unchanged, existing.reusable) == ({}, frozenset())
        assert await chunks.list_files(stored, space.space_key, None, 10) == []
        for query in (
            SearchQuery(vector_D, limit=10),
            SearchQuery(vector_D, limit=10, text="f1 def", lexical_weight=0.5),
        ):
            with pytest.raises(NotFound):
                await SearchStore(caller_database).search(["demo"], space.space_key, query, timeout_s=5)
            plan = Plan(Method.EXACT, 0)
            assert not await SearchStore(caller_database).rank_by(stored, space.space_key, query, plan, timeout_s=5)
        assert await CodebaseStore(caller_database).list("", 10, space_key=space.space_key, timeout_s=5) == []
        with pytest.raises(NotFound):
            await CodebaseStore(caller_database).get("demo", space_key=space.space_key, timeout_s=5)
        with pytest.raises(NotFound):
            await GrantStore(caller_database).list("demo", "", 10, timeout_s=5)


@pytest.mark.parametrize("role", [None, "READ"])
async def test_without_the_right_to_write_nothing_is_written(
    caller_database: Database, database: Database, stored: int, space: SpaceRow, outsider: ApiKey, role: str | None
) -> None:
    """New chunks, changed ones, vectors copied, chunks deleted: the tables are afterwards as they were."""
    await set_role(database, outsider, stored, role)
    before = await contents(database)
    chunks = ChunkStore(caller_database)
    with acting_with(outsider):
        for row in (make_chunk(9), make_chunk(1, version="1"), make_chunk(1, text="changed")):
            with pytest.raises(PermissionDenied, match="may not write"):
                await chunks.insert(stored, space.space_key, [row], make_vectors(1), timeout_s=5)
            with pytest.raises(PermissionDenied, match="may not write"):
                await chunks.insert_reused(stored, space.space_key, [row], timeout_s=5)
        assert await chunks.delete_files(stored, [FileSelector(make_chunk(1).path)]) == 0
        with pytest.raises(NotFound if role is None else PermissionDenied):
            await CodebaseStore(caller_database).delete("demo", timeout_s=5)
    assert await contents(database) == before


STATEMENTS = [
    "INSERT INTO codebases (codebase_id, display_name) VALUES ('mine', 'Mine')",
    "UPDATE codebases SET display_name = 'taken'",
    "DELETE FROM codebases",
    "INSERT INTO embeddings SELECT space_key, chunk_id, codebase_key, embedding FROM embeddings",
    "UPDATE embeddings SET codebase_key = codebase_key",
    "DELETE FROM embeddings",
    "DELETE FROM chunks",
    "UPDATE chunks SET content = 'taken'",
    "INSERT INTO grants (principal_key, codebase_key, role) SELECT current_principal(), codebase_key + 1, 'OWNER'"
    " FROM codebases",
    "UPDATE grants SET role = 'OWNER'",
    "DELETE FROM grants",
    "INSERT INTO principals (principal_id, display_name, is_admin) VALUES ('me', 'Me', true)",
    "UPDATE principals SET is_admin = true",
    "DELETE FROM principals",
    "UPDATE api_keys SET principal_key = 1",
    "UPDATE api_keys SET secret_sha256 = sha256('known')",
    "INSERT INTO api_keys (key_id, principal_key, secret_sha256, display_name)"
    " SELECT 'aaaaaaaaaaaa', 1, sha256('known'), ''",
    "DELETE FROM api_keys",
    "SELECT secret_sha256 FROM api_keys",
    "TRUNCATE chunks CASCADE",
    "SELECT * FROM embeddings_s1",
]


@pytest.mark.parametrize("statement", STATEMENTS)
async def test_even_the_plainest_statement_changes_nothing_of_another_s(
    caller_database: Database, database: Database, stored: int, outsider: ApiKey, statement: str
) -> None:
    """Reader of one codebase, stranger to the other: neither rights nor rows can be written into being.

    The first principal, with key 1, is an administrator.
    """
    async with database.acquire(5) as connection:
        await connection.execute("TRUNCATE principals RESTART IDENTITY CASCADE")
    await make_caller(database, "the-admin", is_admin=True)
    caller = await make_caller(database, "caller")
    await set_role(database, caller, stored, "READ")
    await CodebaseStore(database).create("unseen", "Unseen", timeout_s=5)
    before = await contents(database)
    with acting_with(caller):
        try:
            async with caller_database.acquire(5) as connection:
                status = await connection.execute(statement)
        except (PermissionDenied, asyncpg.InsufficientPrivilegeError):
            pass
        else:
            assert re.search(r" 0$", status), status
    assert await contents(database) == before


async def test_who_may_write_can_do_all_that_indexing_does(
    caller_database: Database, database: Database, stored: int, space: SpaceRow, outsider: ApiKey
) -> None:
    """The policies are no tighter than the roles: insert, change, reuse, delete; and another's chunk stays unseen."""
    await set_role(database, outsider, stored, "WRITE")
    chunks, vectors_BD = ChunkStore(caller_database), make_vectors(2)
    with acting_with(outsider):
        [chunk_id] = await chunks.insert(stored, space.space_key, [make_chunk(7)], vectors_BD[:1], timeout_s=5)
        changed = make_chunk(7, text="changed")
        assert await chunks.insert(stored, space.space_key, [changed], vectors_BD[1:], timeout_s=5) == [chunk_id]
        moved = make_chunk(8, text="changed")
        assert (await chunks.insert_reused(stored, space.space_key, [moved], timeout_s=5))[0] is not None
        result = await SearchStore(caller_database).search(
            ["demo"], space.space_key, SearchQuery(vectors_BD[1], limit=2), timeout_s=5
        )
        assert [hit.chunk.path for hit in result.hits] == [changed.path, moved.path]
        assert await chunks.delete_files(stored, [FileSelector(changed.path), FileSelector(moved.path)]) == 2
    assert (await CodebaseStore(database).get("demo", space_key=space.space_key, timeout_s=5)).chunk_count == 3


@pytest.mark.parametrize(
    "break_key",
    [
        lambda key: ApiKey(key.key_id, bytes(32)),
        lambda key: ApiKey("0" * 12, key.secret),
        lambda key: ApiKey("0" * 12, bytes(32)),
    ],
    ids=["another secret", "another id", "neither"],
)
async def test_a_key_is_its_id_and_its_secret(
    caller_database: Database, outsider: ApiKey, break_key: Callable[[ApiKey], ApiKey]
) -> None:
    """And all are refused in the same words."""
    with acting_with(break_key(outsider)), pytest.raises(Unauthenticated) as refused:
        async with caller_database.acquire(5):
            pass
    assert str(refused.value) == "the API key is not one of this service's; ask its administrator for one"


async def test_hashes_are_compared_in_constant_time_and_compared_always(
    caller_database: Database, outsider: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a look-up, of 32 bytes with 32, by the function that is made for it: also where there is no such key."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(stored: bytes, given: bytes) -> bool:
        compared.append((stored, given))
        return hmac.compare_digest(stored, given)

    monkeypatch.setattr(caller_module, "hmac", SimpleNamespace(compare_digest=compare))
    for key in (outsider, ApiKey(outsider.key_id, bytes(32)), ApiKey("0" * 12, outsider.secret)):
        with acting_with(key), contextlib.suppress(Unauthenticated):
            async with caller_database.acquire(5):
                pass
        (stored, given), *others = compared
        assert others == []
        assert (len(stored), given) == (32, key.secret_sha256)
        compared.clear()


async def test_nothing_of_one_caller_stays_on_the_connection_for_the_next(url: str, database: Database) -> None:
    """Role and principal end with the transaction, also one that failed."""
    admin, caller = await make_caller(database, "boss", is_admin=True), await make_caller(database, "caller")
    one = await Database.connect(url, min_size=1, max_size=1)
    whoami = "SELECT current_user || ' ' || coalesce(current_setting('duovec.principal_key', true), '')"
    with acting_with(admin):
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with one.acquire(5) as connection:
                assert (await connection.fetchval(whoami)).startswith("duovec_admin ")
                await connection.execute("SELECT 1 / 0")
        async with one.acquire(5):
            pass
    with acting_with(caller):
        async with one.acquire(5) as connection:
            assert (await connection.fetchval(whoami)).startswith("duovec_caller ")
            assert await connection.fetchval("SELECT count(*) FROM principals") == 1
    async with one.as_system().acquire(5) as connection:
        assert await connection.fetchval(whoami) == "duovec "
    await one.close()


async def test_a_search_under_a_policy_uses_the_index_of_the_codebase(
    caller_database: Database, database: Database, stored: int, space: SpaceRow, outsider: ApiKey
) -> None:
    """The policy becomes a condition on the index, evaluated once a statement: no check for every row."""
    await set_role(database, outsider, stored, "READ")
    async with database.acquire(5) as connection:
        await connection.execute(
            "INSERT INTO codebases (codebase_id, display_name) SELECT 'c' || i, 'x' FROM generate_series(1, 50) i"
        )
        await connection.execute(
            "INSERT INTO chunks (codebase_key, path, language, symbol, kind, start_line, end_line, content,"
            " content_sha256, file_sha256, ordinal, file_chunk_count)"
            " SELECT c.codebase_key, 'p' || i, 'python', '', 'text', 1, 1, 'x', sha256('x'), sha256('x'), 0, 1"
            " FROM codebases c, generate_series(1, 40) i WHERE c.codebase_id LIKE 'c%'"
        )
        await connection.execute(
            "INSERT INTO embeddings SELECT 1, c.chunk_id, c.codebase_key, e.embedding FROM chunks c,"
            " (SELECT embedding FROM embeddings LIMIT 1) e WHERE c.content = 'x'"
        )
        await connection.execute("ANALYZE embeddings")
    with acting_with(outsider):
        async with caller_database.acquire(5) as connection:
            plan = "\n".join(
                row[0]
                for row in await connection.fetch(
                    f"EXPLAIN SELECT chunk_id FROM embeddings WHERE space_key = 1 AND codebase_key = {stored}"
                )
            )
    assert re.search(r"Index Cond: .*codebase_key = ANY \(\(InitPlan 1\)\.col1\).*codebase_key = \d", plan), plan
    assert "Seq Scan" not in plan
    assert "codebases_with" not in plan.replace("InitPlan", "")


async def test_owners_grant_and_take_away(
    caller_database: Database, database: Database, stored: int, outsider: ApiKey
) -> None:
    """The last of the owners may go, too: administrators remain."""
    other = await make_caller(database, "other")
    await set_role(database, outsider, stored, "OWNER")
    grants = GrantStore(caller_database)
    with acting_with(outsider):
        await grants.set("demo", "other", "READ", timeout_s=5)
        await grants.set("demo", "other", "WRITE", timeout_s=5)
        assert [(row.principal_id, row.role) for row in await grants.list("demo", "", 10, timeout_s=5)] == [
            ("other", "WRITE"),
            ("outsider", "OWNER"),
        ]
    with acting_with(other), pytest.raises(PermissionDenied, match="takes the role OWNER .* yours is WRITE"):
        await grants.set("demo", "other", "OWNER", timeout_s=5)
    with acting_with(outsider):
        await grants.delete("demo", "other", timeout_s=5)
        with pytest.raises(GrantNotFound, match="'other' has no grant on codebase 'demo'"):
            await grants.delete("demo", "other", timeout_s=5)
        await grants.delete("demo", "outsider", timeout_s=5)
        with pytest.raises(NotFound):
            await grants.list("demo", "", 10, timeout_s=5)


@pytest.mark.parametrize("autocommit", [False, True])
async def test_the_system_acts_for_administrators_alone(
    caller_database: Database, database: Database, outsider: ApiKey, autocommit: bool
) -> None:
    """With and without transaction; and nothing of it is left on the connection."""
    administrator = await make_caller(database, "administrator", is_admin=True)
    asked = caller_database.as_administrator()
    with acting_with(outsider), pytest.raises(AdminRequired, match="'outsider' is none"):
        async with asked.acquire(5, autocommit=autocommit):
            pytest.fail("the block must not run")
    with acting_with(administrator):
        async with asked.acquire(5, autocommit=autocommit) as connection:
            assert await connection.fetchval("SELECT current_user = session_user")
            assert connection.is_in_transaction() is not autocommit
        async with caller_database.acquire(5) as connection:
            assert await connection.fetchval("SELECT current_user::text") == "duovec_admin"
