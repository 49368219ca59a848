"""A folder into the service and out again: index, search, change, index again."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chunk_streams import index_chunks

from duovec.v1 import chunk_pb2, index_service_pb2
from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.client.indexer import index_tree
from gateway.rpc.validation import MAX_PATH_BYTES

QUEUE = "def take(queue):\n    return queue.pop(0)\n"
JSON = "def load_json(path):\n    with open(path) as file:\n        return json.load(file)\n"


@pytest.fixture
def codebase(client: Client) -> Iterator[str]:
    client.create_codebase("small")
    yield "small"
    client.delete_codebase("small")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "queue.py").write_text(QUEUE)
    (tmp_path / "files.py").write_text(JSON)
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9\n")
    return tmp_path


def test_what_is_indexed_is_found(client: Client, codebase: str, tree: Path) -> None:
    report = index_tree(client, tree, codebase)
    assert (report.chunks_embedded, report.chunks_failed) == (2, 0)
    response = client.search(codebase, "parse a JSON file")
    best = response.hits[0]
    assert (best.chunk.path, best.chunk.symbol, best.chunk.start_line, best.chunk.end_line) == (
        "files.py",
        "load_json",
        1,
        3,
    )
    assert best.chunk.content.strip() == JSON.strip()
    assert response.exact
    assert (response.searched_chunk_count, response.pending_chunk_count) == (2, 0)
    assert response.hits[0].score > response.hits[1].score


def test_a_file_that_is_not_utf_8_is_skipped_and_reported(client: Client, codebase: str, tree: Path) -> None:
    report = index_tree(client, tree, codebase)
    assert report.skipped.total() == 1
    assert "latin.py" in str(report.skipped_examples)


def test_indexing_again_sends_only_what_changed(client: Client, codebase: str, tree: Path) -> None:
    index_tree(client, tree, codebase)
    again = index_tree(client, tree, codebase)
    assert (again.files_unchanged, again.chunks_embedded, again.chunks_deleted) == (2, 0, 0)
    (tree / "queue.py").write_text(QUEUE + "\n\ndef put(queue, item):\n    queue.append(item)\n")
    changed = index_tree(client, tree, codebase)
    # The function that stayed is stored for the new version with the vector that it had.
    assert (changed.chunks_embedded, changed.chunks_reused, changed.chunks_deleted) == (1, 1, 1)
    (tree / "files.py").unlink()
    removed = index_tree(client, tree, codebase)
    assert (removed.files_removed, removed.chunks_deleted) == (1, 1)
    assert {hit.chunk.path for hit in client.search(codebase, "json").hits} == {"queue.py"}


def test_a_bad_chunk_does_not_harm_its_neighbours(client: Client, codebase: str) -> None:
    good = chunk_pb2.Chunk(
        path="a.py",
        language="python",
        kind="function",
        symbol="f",
        start_line=1,
        end_line=1,
        content="def f(): pass",
        file_sha256=bytes(32),
        ordinal=0,
        file_chunk_count=1,
    )
    bad = chunk_pb2.Chunk()
    bad.CopyFrom(good)
    bad.path = "../outside.py"
    requests = [
        index_service_pb2.IndexChunksRequest(codebase_id=codebase, item_id=name, chunk=chunk)
        for name, chunk in (("good", good), ("bad", bad), ("again", good))
    ]
    requests.append(index_service_pb2.IndexChunksRequest(codebase_id="other", item_id="foreign", chunk=good))
    replies = {reply.item_id: reply for reply in index_chunks(client, iter(requests))}
    assert replies["good"].indexed.chunk_id == replies["again"].indexed.chunk_id > 0
    assert "chunk.path: is '../outside.py'" in replies["bad"].error.message
    assert "codebase_id: is 'other'" in replies["foreign"].error.message
    assert client.get_codebase(codebase).chunk_count == 1


def test_two_selectors_of_a_path_delete_nothing(client: Client, codebase: str, tree: Path) -> None:
    """Meant to keep two versions, they would delete both."""
    index_tree(client, tree, codebase)
    selector = index_service_pb2.DeleteChunksRequest.FileSelector
    both = [selector(path="queue.py", keep_file_sha256=bytes([number]) * 32) for number in (1, 2)]
    with pytest.raises(ClientError, match=r"files\[1\]\.path: is 'queue\.py' a second time; send one selector a path"):
        client.delete_files(codebase, both)
    assert client.get_codebase(codebase).chunk_count == 2


@pytest.mark.parametrize(
    ("selector", "error"),
    [
        ({"keep_file_sha256": b"1"}, r"files\[0\]\.keep_file_sha256: has 1 bytes"),
        ({"delete_file_sha256": [bytes(32), b"12"]}, r"files\[0\]\.delete_file_sha256\[1\]: has 2 bytes"),
        ({"delete_file_sha256": [bytes(32)] * 101}, r"files\[0\]\.delete_file_sha256: has 101 items; send 100 at most"),
        (
            {"keep_file_chunk_count": 3},
            r"files\[0\]\.keep_file_chunk_count: is 3; 1 or more, beside a keep_file_sha256",
        ),
        ({"keep_file_sha256": bytes(32), "keep_file_chunk_count": -1}, r"keep_file_chunk_count: is -1"),
    ],
)
def test_a_bad_selector_is_named(client: Client, codebase: str, selector: dict[str, Any], error: str) -> None:
    one = index_service_pb2.DeleteChunksRequest.FileSelector(path="queue.py", **selector)
    with pytest.raises(ClientError, match=error):
        client.delete_files(codebase, [one])


def test_the_longest_path_is_stored(client: Client, codebase: str) -> None:
    """Of characters that do not compress: PostgreSQL's index over paths has a limit of its own."""
    generator = random.Random(1)
    path = "".join(chr(generator.randrange(0x400, 0x7FF)) for _ in range(MAX_PATH_BYTES // 2))
    chunk = chunk_pb2.Chunk(
        path=path,
        language="text",
        kind="text",
        start_line=1,
        end_line=1,
        content="x = 1",
        file_sha256=bytes(32),
        file_chunk_count=1,
    )
    request = index_service_pb2.IndexChunksRequest(codebase_id=codebase, item_id="long", chunk=chunk)
    [reply] = index_chunks(client, iter([request]))
    assert reply.indexed.chunk_id > 0
    assert [file.path for file in client.list_files(codebase)] == [path]


def test_codebases_are_listed_with_their_counts(client: Client, codebase: str, tree: Path) -> None:
    index_tree(client, tree, codebase)
    counts = {row.codebase_id: row.chunk_count for row in client.list_codebases()}
    assert counts["small"] == 2
