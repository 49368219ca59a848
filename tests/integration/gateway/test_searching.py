"""Search through the running service: inputs, filters, blends, pages, and what the reply says."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from duovec.v1 import search_service_pb2 as pb
from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.client.indexer import index_tree
from gateway.local.stack import Stack
from gateway.store.pool import Database
from gateway.store.spaces import SpaceStore

FILES = {
    "net/sockets.py": "def openSocket(host, port):\n    return socket.create_connection((host, port))\n",
    "net/http/server.py": "class HTTPServer:\n    def serve_forever(self):\n        while self.open: self.handle()\n",
    "text/json_reader.py": "def parse_json(text):\n    return json.loads(text)\n",
    "text/words.go": 'package text\n\nfunc SplitWords(s string) []string {\n\treturn strings.Split(s, " ")\n}\n',
    "math/add.py": "def add(first, second):\n    return first + second\n",
}


@pytest.fixture
def codebases(client: Client, tmp_path: Path) -> Iterator[list[str]]:
    """Two codebases: everything but math in one, math in the other."""
    names = ["searching", "searching-math"]
    for path, content in FILES.items():
        file = tmp_path / (names[1] if path.startswith("math") else names[0]) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    for name in names:
        index_tree(client, tmp_path / name, name)
    yield names
    for name in names:
        client.delete_codebase(name)


def paths(response: pb.SearchResponse) -> list[str]:
    return [hit.chunk.path for hit in response.hits]


def test_one_query_over_two_codebases(client: Client, codebases: list[str]) -> None:
    response = client.search(codebases, "sum of two numbers")
    assert (response.hits[0].chunk.path, response.hits[0].codebase_id) == ("math/add.py", "searching-math")
    assert set(paths(response)) == set(FILES)
    assert (response.method, response.exact, response.partial) == (pb.SEARCH_METHOD_EXACT, True, False)
    assert response.candidate_count == response.searched_chunk_count == len(response.hits)
    assert "math/add.py" not in paths(client.search(codebases[0], "sum of two numbers"))


def test_filters_leave_what_they_name(client: Client, codebases: list[str]) -> None:
    assert set(paths(client.search(codebases, "x", paths=["net/**"]))) == {"net/sockets.py", "net/http/server.py"}
    assert set(paths(client.search(codebases, "x", paths=["*.go", "math/"]))) == {"text/words.go", "math/add.py"}
    assert paths(client.search(codebases, "x", languages=["go"])) == ["text/words.go"]
    assert paths(client.search(codebases, "x", languages=["go"], paths=["net/**"])) == []
    kinds = {hit.chunk.kind for hit in client.search(codebases, "x", kinds=["method", "class"]).hits}
    assert kinds <= {"method", "class"}


def test_an_identifier_is_found_however_it_is_written(client: Client, codebases: list[str]) -> None:
    for query in ("HTTPServer", "http_server", "httpServer", "httpserver"):
        [hit] = client.search(codebases, query, limit=1).hits
        assert hit.chunk.path == "net/http/server.py", query
        assert hit.lexical_score > 0


def test_the_score_says_how_it_was_made(client: Client, codebases: list[str]) -> None:
    response = client.search(codebases, "open a socket", lexical_weight=0.25)
    assert response.lexical_weight == 0.25
    for hit in response.hits:
        assert hit.score == pytest.approx(0.75 * hit.similarity + 0.25 * hit.lexical_score, abs=1e-8)
    only_vectors = client.search(codebases, "open a socket", lexical_weight=0)
    assert [hit.score for hit in only_vectors.hits] == pytest.approx([hit.similarity for hit in only_vectors.hits])


@pytest.mark.parametrize("blend", [0.0, 0.3, 1.0])
def test_a_blend_weighs_the_cosines_of_both_encoders(client: Client, codebases: list[str], blend: float) -> None:
    """Against the halves of the vectors that the service gives for the same texts."""
    query = "read a JSON document"
    query_D = client.embed([query], "query")[0].astype(np.float64)
    halves = (slice(None, 1536), slice(1536, None))
    response = client.search(codebases, query, blend=blend, lexical_weight=0)
    for hit in response.hits:
        text = f"{hit.chunk.symbol}\n{hit.chunk.content}" if hit.chunk.symbol else hit.chunk.content
        passage_D = client.embed([text], "passage")[0].astype(np.float64)
        code, words = (
            passage_D[half] @ query_D[half] / np.linalg.norm(passage_D[half]) / np.linalg.norm(query_D[half])
            for half in halves
        )
        assert hit.similarity == pytest.approx(blend * code + (1 - blend) * words, abs=2e-3)


def test_code_finds_what_resembles_it_and_a_chunk_its_like_but_not_itself(client: Client, codebases: list[str]) -> None:
    code = FILES["text/json_reader.py"].replace("parse_json", "read")
    response = client.search(codebases, code=code)
    assert response.hits[0].chunk.path == "text/json_reader.py"
    assert response.lexical_weight == 0
    like = client.search(codebases, like_chunk_id=response.hits[0].chunk_id)
    assert "text/json_reader.py" not in paths(like)
    assert len(like.hits) == response.searched_chunk_count - 1
    with pytest.raises(ClientError) as failure:
        client.search(codebases[1], like_chunk_id=response.hits[0].chunk_id)
    assert (failure.value.code, failure.value.reason) == (grpc.StatusCode.NOT_FOUND, "CHUNK_NOT_FOUND")


def test_pages_are_the_one_long_list(client: Client, codebases: list[str]) -> None:
    whole = client.search(codebases, "serve requests", limit=100)
    assert whole.next_page_token == ""
    ids, token = [], ""
    while True:
        page = client.search(codebases, "serve requests", limit=2, page_token=token)
        ids += [hit.chunk_id for hit in page.hits]
        token = page.next_page_token
        if not token:
            break
    assert ids == [hit.chunk_id for hit in whole.hits]
    first = client.search(codebases, "serve requests", limit=2)
    with pytest.raises(ClientError) as failure:
        client.search(codebases, "serve", limit=2, page_token=first.next_page_token)
    assert (failure.value.code, failure.value.violations[0].field) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "page_token",
    )
    assert "belongs to another query" in str(failure.value)


def test_a_minimum_score_leaves_out_the_rest(client: Client, codebases: list[str]) -> None:
    scores = [hit.score for hit in client.search(codebases, "add two numbers").hits]
    least = (scores[0] + scores[1]) / 2
    assert [hit.score for hit in client.search(codebases, "add two numbers", min_score=least).hits] == scores[:1]


@pytest.fixture
async def building(stack: Stack, codebases: list[str]) -> AsyncIterator[str]:
    """Fingerprint of a space beside the active one, in which every chunk has its vector."""
    database = await Database.connect(stack._gateway_environment["DUOVEC_DATABASE_URL"])
    spaces = SpaceStore(database.as_system())
    active = await spaces.get_active()
    assert active is not None
    space = await spaces.build("d" * 64, active.manifest, timeout_s=10)
    async with database.as_system().acquire(10) as connection:
        await connection.execute(
            "INSERT INTO embeddings SELECT $1, chunk_id, codebase_key, embedding FROM embeddings WHERE space_key = $2",
            space.space_key,
            active.space_key,
        )
    yield space.fingerprint
    await spaces.drop(space.space_key, timeout_s=30)
    await database.close()


def test_a_search_is_of_the_space_that_its_caller_relies_on_or_of_none(
    client: Client, codebases: list[str], building: str
) -> None:
    """Who keeps vectors of a space must not get the hits of another, nor those of one that nobody has verified."""
    any_space = client.search(codebases, "open a socket")
    active = any_space.space
    named = client.search(codebases, "open a socket", space=active)
    assert (named.space, paths(named)) == (active, paths(any_space))
    like = named.hits[0].chunk_id
    for space in (building, "e" * 64):
        for query in ({"query": "open a socket"}, {"code": "def f(): ..."}, {"like_chunk_id": like}):
            with pytest.raises(ClientError) as failure:
                client.search(codebases, space=space, **query)
            assert (failure.value.code, failure.value.reason) == (
                grpc.StatusCode.FAILED_PRECONDITION,
                "SPACE_MISMATCH",
            )
            assert f"relies on space {space!r}, and {active} is the active one" in str(failure.value)
