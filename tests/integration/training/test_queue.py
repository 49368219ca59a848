"""The queue of training runs on the real PostgreSQL: claims, schedules, and what its failures mean."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.local.postgres import Postgres
from training.database import DatabaseAway
from training.errors import TrainingError
from training.worker.queue import Outcome, Progress, RunQueue

Connection = Any


async def row(connection: Connection, run_id: int) -> Any:
    return await connection.fetchrow("SELECT * FROM training_runs WHERE run_id = $1", run_id)


async def add(connection: Connection) -> int:
    run_id: int = await connection.fetchval(
        "INSERT INTO training_runs (recipe, encoder, codebase_ids, device, publish, principal_id)"
        " VALUES ('encoder = \"small.toml\"', 'small.toml', '{}', 'auto', false, 'admin') RETURNING run_id"
    )
    return run_id


async def test_a_queue_tells_a_database_that_is_away_from_one_that_is_asked_for_what_cannot_be(
    postgres: Postgres, connection: Connection
) -> None:
    """Only what is away is asked again: a value that PostgreSQL does not take is none it takes the next time."""
    run_id = await add(connection)
    queue = RunQueue(postgres.url, "one", 60.0)
    run = await queue.claim()
    assert run is not None
    with pytest.raises(TrainingError, match="cannot do what it was asked for: invalid byte sequence"):
        await queue.end(run, Outcome("FAILED", "NOT_BETTER", "a\0b"), {})
    with pytest.raises(TrainingError, match="cannot do what it was asked for: invalid input syntax for type json"):
        await queue.end(run, Outcome("SUCCEEDED", metrics={"gain": float("nan")}), {})
    with pytest.raises(DatabaseAway):
        await RunQueue("postgresql://duovec:secret@127.0.0.1:1/duovec", "two", 60.0).claim()
    assert await queue.end(run, Outcome("SUCCEEDED"), {})
    assert (await row(connection, run_id))["state"] == "SUCCEEDED"
    await queue.close()


async def test_each_run_is_claimed_once_and_an_old_claim_writes_nothing(
    postgres: Postgres, connection: Connection
) -> None:
    """Twenty runs, eight queues at once; then a lease that is over, and its old holder's words."""
    recipe = 'encoder = "small.toml"'
    for _ in range(20):
        await connection.execute(
            "INSERT INTO training_runs (recipe, encoder, codebase_ids, device, publish, principal_id)"
            " VALUES ($1, 'small.toml', '{}', 'auto', false, 'admin')",
            recipe,
        )
    queues = [RunQueue(postgres.url, f"worker {number}", 60.0) for number in range(8)]

    async def drain(one: RunQueue) -> list[int]:
        claimed = []
        while (run := await one.claim()) is not None:
            claimed.append(run.run_id)
        return claimed

    claimed = [run_id for found in await asyncio.gather(*map(drain, queues)) for run_id in found]
    assert len(claimed) == len(set(claimed)) == 20
    await connection.execute(
        "UPDATE training_runs SET lease_until = now() - interval '1 s' WHERE run_id = $1", claimed[0]
    )
    old, new = queues[:2]
    taken = await new.claim()
    assert taken is not None
    assert (taken.run_id, taken.attempt) == (claimed[0], 2)
    before = replace(taken, attempt=1)
    assert await old.keep(before, Progress("train", 1, 2, 3.0, 4.0)) is None
    assert not await old.give_back(before)
    assert not await old.end(before, Outcome("SUCCEEDED"), {})
    kept = await row(connection, taken.run_id)
    assert (kept["state"], kept["stage"], kept["worker"], kept["lineage"]) == ("RUNNING", None, "worker 1", "{}")
    await connection.execute(
        "UPDATE training_runs SET lease_until = now() - interval '1 s' WHERE run_id = $1", taken.run_id
    )
    again = await new.claim()
    assert again is not None
    assert (again.attempt, again.lost_count, again.retry_count) == (3, 2, 0)
    assert await new.give_back(again)
    once_more = await new.claim()
    assert once_more is not None
    assert (once_more.attempt, once_more.lost_count, once_more.retry_count) == (4, 2, 0)
    assert await new.ended([claimed[1], 10**9]) == {10**9}
    for one in queues:
        await one.close()


async def test_a_schedule_queues_a_run_when_there_is_enough_new_feedback(
    postgres: Postgres, connection: Connection
) -> None:
    """Counted by codebase and since the run before, where something can be learned; one run at a time."""
    keys = [
        await connection.fetchval(
            "INSERT INTO codebases (codebase_id, display_name) VALUES ($1, $1) RETURNING codebase_key", name
        )
        for name in ("mine", "other")
    ]
    await connection.execute(
        "INSERT INTO training_schedules (recipe, encoder, codebase_ids, seed, device, publish, min_feedback_count,"
        " principal_id) VALUES ('encoder = \"small.toml\"', 'small.toml', '{mine}', 7, 'cpu', true, 3, 'alice')"
    )
    queues = [RunQueue(postgres.url, f"worker {number}", 60.0) for number in range(4)]
    await judge(connection, keys[0], 2)
    await judge(connection, keys[1], 5)
    # Nothing to tell them from: no example.
    await judge(connection, keys[0], 5, useless=0)
    await judge(connection, keys[0], 0, useless=5)
    assert [await one.queue_due() for one in queues] == [None] * 4
    await judge(connection, keys[0], 1)
    found = [one for one in await asyncio.gather(*(one.queue_due() for one in queues)) if one is not None]
    assert len(found) == 1
    run = await queues[0].claim()
    assert run is not None
    assert (run.run_id, run.seed, run.codebase_ids, run.publish) == (found[0], 7, ("mine",), True)
    assert (await row(connection, run.run_id))["principal_id"] == "alice"
    await judge(connection, keys[0], 3)
    # Enough again, and the run has not ended.
    assert await queues[0].queue_due() is None
    assert await queues[0].end(run, Outcome("FAILED", "NOT_BETTER", "no"), {})
    assert await queues[0].queue_due() is not None
    for one in queues:
        await one.close()


async def judge(connection: Connection, codebase_key: int, useful: int, *, useless: int = 1) -> None:
    """Feedback on the hits of one search."""
    count = useful + useless
    principal = await connection.fetchval(
        "INSERT INTO principals (principal_id, display_name) VALUES ('someone', 'S')"
        " ON CONFLICT (principal_id) DO UPDATE SET display_name = 'S' RETURNING principal_key"
    )
    search = await connection.fetchval(
        "INSERT INTO searches (search_id, principal_key, space, query_kind, query_text, hit_count, create_time)"
        " VALUES (gen_random_uuid(), $1, $2, 'QUERY', 'x', $3, now()) RETURNING search_key",
        principal,
        "a" * 64,
        count,
    )
    chunk_ids = list(range(1, count + 1))
    digests = [bytes(32)] * count
    await connection.execute(
        "INSERT INTO searched_codebases VALUES ($1, $2, $3, $4, $5, $4::bigint[]::integer[], $6)",
        search,
        codebase_key,
        principal,
        chunk_ids,
        digests,
        [0.5] * count,
    )
    for chunk_id in chunk_ids:
        await connection.execute(
            "INSERT INTO feedback (search_key, codebase_key, chunk_id, content_sha256, rank, codebase_rank, useful,"
            " judge_time) VALUES ($1, $2, $3, $4, 1, 1, $5, $6)",
            search,
            codebase_key,
            chunk_id,
            bytes(32),
            chunk_id <= useful,
            datetime.now(UTC),
        )
