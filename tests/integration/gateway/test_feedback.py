"""Searches, feedback and quality through the running service, as its users and its administrators have them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import grpc
import numpy as np
import pytest
from ir_measures import RR, Qrel, ScoredDoc, calc_aggregate, nDCG

from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.client.indexer import index_tree
from gateway.local.process import GatewayServer, free_port
from gateway.local.stack import Stack

FILES = {
    "sockets.py": "def open_socket(host, port):\n    return socket.create_connection((host, port))\n",
    "server.py": "class HTTPServer:\n    def serve_forever(self):\n        while self.open: self.handle()\n",
    "reader.py": "def parse_json(text):\n    return json.loads(text)\n",
    "add.py": "def add(first, second):\n    return first + second\n",
}
CODEBASE, SECOND = "feedback-main", "feedback-second"


@dataclass(frozen=True)
class People:
    """Clients of two readers and of an owner of the first codebase."""

    reader: Client
    other: Client
    owner: Client


@pytest.fixture
def people(stack: Stack, client: Client, tmp_path: Path) -> Iterator[People]:
    for path, content in FILES.items():
        (tmp_path / path).write_text(content)
    for name in (CODEBASE, SECOND):
        index_tree(client, tmp_path, name)
    clients = {}
    for name, role in (("reader", "read"), ("other", "read"), ("owner", "owner")):
        client.access.create_principal(f"feedback-{name}")
        client.access.set_grant(CODEBASE, f"feedback-{name}", role)
        key = client.access.create_api_key(f"feedback-{name}").key
        clients[name] = Client(stack.endpoint, api_key=key)
    client.access.set_grant(SECOND, "feedback-reader", "read")
    yield People(**clients)
    for name, one in clients.items():
        one.close()
        client.access.delete_principal(f"feedback-{name}")
    for name in {row.codebase_id for row in client.list_codebases()} & {CODEBASE, SECOND}:
        client.delete_codebase(name)


async def fetch(stack: Stack, sql: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(stack._gateway_environment["DUOVEC_DATABASE_URL"])
    try:
        return await connection.fetch(sql, *arguments)
    finally:
        await connection.close()


def refused(call: object, *arguments: object, **options: object) -> tuple[str, str, str]:
    """Code, reason and words of a call that must fail."""
    with pytest.raises(ClientError) as failure:
        call(*arguments, **options)  # type: ignore[operator]
    return failure.value.code.name, failure.value.reason, str(failure.value)


async def test_feedback_right_after_a_search_keeps_what_training_needs(stack: Stack, people: People) -> None:
    """200 searches at once, each with feedback before its batch is due; the log has query, vector, text, and who."""

    def ask(number: int) -> tuple[str, int]:
        response = people.reader.search(CODEBASE, f"how are sockets opened, take {number}")
        hit = response.hits[number % 3]
        people.reader.record_feedback(response.search_id, useful=[hit.chunk_id])
        return response.search_id, hit.chunk_id

    with ThreadPoolExecutor(16) as pool:
        given = dict(pool.map(ask, range(200)))
    assert len(given) == 200
    records = await fetch(
        stack,
        "SELECT e.search_id::text AS id, e.chunk_id, e.query_text, e.content, e.path, e.gain, e.space, e.codebase_id,"
        " p.principal_id FROM feedback_examples e JOIN principals p USING (principal_key) WHERE e.codebase_id = $1",
        CODEBASE,
    )
    assert {record["id"]: record["chunk_id"] for record in records} == given
    response = people.reader.search(CODEBASE, "how are sockets opened, take 0")
    assert {(row["gain"], row["space"], row["principal_id"]) for row in records} == {
        (2, response.space, "feedback-reader")
    }
    contents = {hit.chunk_id: hit.chunk.content for hit in response.hits}
    assert all(row["content"] == contents[row["chunk_id"]] for row in records)
    assert {row["query_text"] for row in records} == {f"how are sockets opened, take {n}" for n in range(200)}
    [vector] = await fetch(stack, "SELECT query_vector::text AS v FROM searches WHERE search_id = $1", records[0]["id"])
    embedded = people.reader.embed([records[0]["query_text"]], "query")[0]
    np.testing.assert_allclose(json.loads(vector["v"]), embedded, atol=2e-3)


async def test_every_kind_of_query_is_logged_as_what_it_is(stack: Stack, people: People) -> None:
    """Words, code, a chunk; another blend has no vector to compare; later pages are no searches of their own."""
    first = people.reader.search(CODEBASE, "sum", limit=1)
    assert people.reader.search(CODEBASE, "sum", limit=1, page_token=first.next_page_token).search_id == ""
    [like] = first.hits
    ids = [
        first.search_id,
        people.reader.search(CODEBASE, "sum", blend=0.9).search_id,
        people.reader.search([SECOND, CODEBASE], code="def f(): pass").search_id,
        people.reader.search(CODEBASE, like_chunk_id=like.chunk_id).search_id,
        people.reader.search(CODEBASE, "sum", languages=["go"]).search_id,
    ]
    # Written in order: when the last one is, all are.
    last = people.reader.search(CODEBASE, "open a socket")
    people.reader.record_feedback(last.search_id, opened=[last.hits[0].chunk_id])
    rows = {
        str(row["search_id"]): tuple(row)[1:]
        for row in await fetch(
            stack,
            "SELECT search_id, query_kind, query_text, query_vector IS NOT NULL, hit_count, like_chunk_id,"
            " (SELECT count(*) FROM searched_codebases r WHERE r.search_key = s.search_key) FROM searches s",
        )
    }
    assert [rows[id_] for id_ in ids] == [
        ("QUERY", "sum", True, 1, None, 1),
        ("QUERY", "sum", False, len(FILES) + 1, None, 1),
        ("CODE", "def f(): pass", True, 2 * (len(FILES) + 1), None, 2),
        ("LIKE", None, True, len(FILES), like.chunk_id, 1),
        ("QUERY", "sum", True, 0, None, 1),
    ]


def test_feedback_is_on_one_s_own_search_and_what_it_showed(people: People, client: Client) -> None:
    """Another's search, the owner's and the administrator's eyes included, is as one that does not exist."""
    response = people.reader.search([CODEBASE, SECOND], "open a socket", limit=4)
    [chunk_id, *_] = [hit.chunk_id for hit in response.hits if hit.codebase_id == CODEBASE]
    missing = "00000000-0000-0000-0000-000000000000"
    for stranger in (people.other, people.owner, client):
        words = set()
        for search_id in (response.search_id, missing):
            code, reason, message = refused(stranger.record_feedback, search_id, useful=[chunk_id])
            assert (code, reason) == ("NOT_FOUND", "SEARCH_NOT_FOUND")
            words.add(message.replace(search_id, "ID"))
        assert len(words) == 1
    code, reason, message = refused(people.reader.record_feedback, response.search_id, useful=[chunk_id, 10**9])
    assert (code, reason) == ("INVALID_ARGUMENT", "INVALID_INPUT")
    assert "items[1].chunk_id" in message
    people.reader.record_feedback(response.search_id, useful=[chunk_id])
    people.reader.record_feedback(response.search_id, useful=[chunk_id])
    # Revoked: from the next request on, and for the hits that one may still see not.
    client.access.delete_grant(CODEBASE, "feedback-reader")
    [still] = [hit.chunk_id for hit in response.hits if hit.codebase_id == SECOND][:1]
    assert refused(people.reader.record_feedback, response.search_id, useful=[chunk_id])[:2] == (
        "NOT_FOUND",
        "CHUNK_NOT_FOUND",
    )
    people.reader.record_feedback(response.search_id, not_useful=[still])
    client.access.delete_grant(SECOND, "feedback-reader")
    assert refused(people.reader.record_feedback, response.search_id, useful=[still])[:2] == (
        "NOT_FOUND",
        "SEARCH_NOT_FOUND",
    )


async def test_owners_and_administrators_see_quality(stack: Stack, people: People, client: Client) -> None:
    """Against ir-measures, of searches whose hits are judged by where they stand."""
    people.reader.search(CODEBASE, "nothing", languages=["cobol"])
    qrels, run, clicked = [], [], 0
    for number, query in enumerate(("open a socket", "parse json", "sum of numbers", "serve http")):
        hits = people.reader.search(CODEBASE, query).hits
        search_id = people.reader.search(CODEBASE, query).search_id
        run += [ScoredDoc(query, str(hit.chunk_id), -rank) for rank, hit in enumerate(hits)]
        useful, opened = hits[number].chunk_id, hits[(number + 2) % 4].chunk_id
        qrels += [Qrel(query, str(useful), 2), Qrel(query, str(opened), 1)]
        clicked += 0 in (number, (number + 2) % 4)
        people.reader.record_feedback(search_id, useful=[useful], opened=[opened])
    with pytest.raises(ClientError, match="takes the role OWNER .* yours is READ"):
        list(people.reader.list_quality(CODEBASE))
    assert list(people.reader.list_quality()) == []
    [row] = people.owner.list_quality(week_count=1)
    [seen_by_admin] = client.list_quality(CODEBASE, week_count=1)
    # The order of sums differs.
    assert seen_by_admin.ndcg_at_10 == pytest.approx(row.ndcg_at_10)
    seen_by_admin.ndcg_at_10 = row.ndcg_at_10
    assert row == seen_by_admin
    assert (row.codebase_id, row.search_count, row.zero_hit_count, row.judged_count) == (CODEBASE, 9, 1, 4)
    measured = calc_aggregate([RR, nDCG @ 10], qrels, run)
    assert row.mrr == pytest.approx(measured[RR])
    assert row.ndcg_at_10 == pytest.approx(measured[nDCG @ 10])
    assert row.click_through_at_1 == pytest.approx(clicked / 9)
    together = [one for one in client.list_quality(week_count=1) if one.codebase_id == ""]
    assert sum(one.search_count for one in together) >= 9
    # What was asked goes with the codebase, also where no administrator deletes it.
    people.owner.delete_codebase(CODEBASE)
    assert list(people.owner.list_quality(week_count=1)) == []
    [left] = await fetch(
        stack,
        "SELECT count(*) FROM searches JOIN principals USING (principal_key) WHERE principal_id = 'feedback-reader'",
    )
    assert left[0] == 0


@pytest.fixture
async def silent(stack: Stack, tmp_path: Path) -> AsyncIterator[GatewayServer]:
    """A second gateway on the same database, which is set to keep no log."""
    endpoint = f"127.0.0.1:{free_port()}"
    environment = {**stack._gateway_environment, "DUOVEC_SEARCH_LOG": "false"}
    gateway = GatewayServer(endpoint, environment, log_path=tmp_path / "silent.log")
    await gateway.start()
    yield gateway
    await gateway.stop()


async def test_a_gateway_without_a_log_says_so_and_takes_feedback_on_what_others_logged(
    stack: Stack, people: People, client: Client, silent: GatewayServer
) -> None:
    """No id, and nothing in the log; the searches of another gateway are those of one service."""
    key = client.access.create_api_key("feedback-reader").key
    with Client(silent.url, api_key=key) as quiet:
        response = quiet.search(CODEBASE, "something that nobody else asks")
        assert (response.search_id, len(response.hits)) == ("", len(FILES) + 1)
        logged = people.reader.search(CODEBASE, "something that nobody else asks")
        chunk_id = logged.hits[0].chunk_id
        people.reader.record_feedback(logged.search_id, opened=[chunk_id])
        quiet.record_feedback(logged.search_id, useful=[chunk_id])
    rows = await fetch(stack, "SELECT query_text, gain FROM feedback_examples WHERE codebase_id = $1", CODEBASE)
    assert [tuple(row) for row in rows] == [("something that nobody else asks", 2)]
    [count] = await fetch(stack, "SELECT count(*) FROM searches WHERE query_text LIKE 'something that nobody%'")
    assert count[0] == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"space": "x"}, "space: is 'x'; send the 64 hex digits"),
        ({"week_count": 521}, "week_count: is 521; use 1 to 520"),
        ({"week_count": -1}, "week_count: is -1"),
        ({"codebase_id": "No!"}, "codebase_id: is 'No!'"),
    ],
)
def test_quality_of_nonsense_is_refused(client: Client, options: dict[str, object], complaint: str) -> None:
    code, _, message = refused(lambda: list(client.list_quality(**options)))  # type: ignore[arg-type]
    assert code == grpc.StatusCode.INVALID_ARGUMENT.name
    assert complaint in message


def test_the_commands_from_search_to_page(stack: Stack, people: People, tmp_path: Path) -> None:
    """What search prints is what feedback takes; the page shows the week."""

    def duovec(*words: str) -> str:
        environment = os.environ | {"DUOVEC_ENDPOINT": stack.endpoint, "DUOVEC_API_KEY": stack.api_key, "COLUMNS": "80"}
        command = [str(Path(sys.executable).with_name("duovec")), *words]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    shown = duovec("search", "open a socket", "--codebase", SECOND)
    line = re.search(r"^useful\? duovec (feedback \S+ --useful \d+)$", shown, re.MULTILINE)
    assert line is not None
    assert duovec(*line[1].split()) == "recorded for 1 hit\n"
    [row] = json.loads(duovec("quality", "--codebase", SECOND, "--json"))["rows"]
    assert (row["judged_share"], row["click_through_at_1"], row["mrr"], row["ndcg_at_10"]) == (1, 1, 1, 1)
    page = tmp_path / "quality.html"
    assert "100%" in duovec("quality", "--codebase", SECOND, "--html", str(page))
    assert "<h2>feedback-second</h2>" in page.read_text()
