"""Syncing and watching through the running service: what is embedded, what is shared, and what search says."""

import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from chunk_streams import index_chunks
from git_repository import GitRepository

from duovec.v1 import index_service_pb2 as index_pb
from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.client.indexer import index_tree
from gateway.client.report import IndexReport
from gateway.client.sync import sync_tree
from gateway.client.watch import watch_tree
from gateway.local.stack import Stack

CODEBASE = "freshness"
TAKE = "def take(queue):\n    return queue.pop(0)\n"
LOAD = "def load_json(path):\n    with open(path) as file:\n        return json.load(file)\n"


@pytest.fixture
def codebase(client: Client) -> Iterator[str]:
    yield CODEBASE
    client.delete_codebase(CODEBASE)


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    repository = GitRepository(tmp_path / "repo")
    repository.commit({"src/queue.py": TAKE, "src/files.py": LOAD})
    return repository


def counts(report: IndexReport) -> tuple[int, int, int]:
    return report.chunks_embedded, report.chunks_reused, report.chunks_deleted


def paths(client: Client) -> list[str]:
    return [file.path for file in client.list_files(CODEBASE)]


def test_new_names_and_branches_cost_no_forward_pass(client: Client, codebase: str, repository: GitRepository) -> None:
    """What the codebase has already is stored again with the vector that it has; what is gone goes."""
    first = sync_tree(client, repository.folder, codebase)
    assert counts(first.index) == (2, 0, 0)
    repository.git("mv", "src", "lib")
    renamed_commit = repository.commit()
    renamed = sync_tree(client, repository.folder, codebase)
    assert (counts(renamed.index), renamed.renamed_count) == ((0, 2, 2), 2)
    assert paths(client) == ["lib/files.py", "lib/queue.py"]
    repository.git("checkout", "--quiet", "-b", "feature")
    repository.commit({"lib/queue.py": f"{TAKE}\n\ndef put(queue, item):\n    queue.append(item)\n"})
    branch = sync_tree(client, repository.folder, codebase)
    assert (counts(branch.index), branch.base_commit_id) == ((1, 1, 1), renamed_commit)
    repository.git("checkout", "--quiet", "main")
    back = sync_tree(client, repository.folder, codebase)
    assert (counts(back.index), back.compared_because) == ((0, 1, 2), "")


def test_search_tells_the_commit_and_that_somebody_wrote_since(
    client: Client, codebase: str, repository: GitRepository
) -> None:
    report = sync_tree(client, repository.folder, codebase)
    [searched] = client.search(codebase, "json").revisions
    assert (searched.codebase_id, searched.revision.commit_id) == (codebase, report.commit_id)
    assert (searched.revision.branch, searched.revision.outdated, searched.revision.version) == ("main", False, 1)
    assert client.get_codebase(codebase).revision == searched.revision
    with pytest.raises(ClientError, match="it has revision 1, and this update began from 0") as error:
        client.set_revision(codebase, searched.revision, expected_version=0)
    assert error.value.reason == "REVISION_CHANGED"
    [searched] = client.search(codebase, "json").revisions
    assert searched.revision.outdated
    assert sync_tree(client, repository.folder, codebase).compared_because.startswith("it was changed since")


def test_a_chunk_is_read_between_its_neighbors(client: Client, codebase: str, repository: GitRepository) -> None:
    functions = [f"def step_{number}():\n    return {number}\n" for number in range(5)]
    repository.commit({"steps.py": "\n\n".join(functions)})
    sync_tree(client, repository.folder, codebase)
    chunk_id = next(hit.chunk_id for hit in client.search(codebase, "step_2").hits if hit.chunk.symbol == "step_2")

    def symbols(neighbor_count: int) -> tuple[list[str], str, list[str]]:
        reply = client.get_chunk(codebase, chunk_id, neighbor_count=neighbor_count)
        assert (reply.chunk.chunk_id, reply.chunk.chunk.start_line) == (chunk_id, 9)
        before, after = reply.chunks_before, reply.chunks_after
        return [one.chunk.symbol for one in before], reply.chunk.chunk.symbol, [one.chunk.symbol for one in after]

    assert symbols(0) == ([], "step_2", [])
    assert symbols(1) == (["step_1"], "step_2", ["step_3"])
    assert symbols(20) == (["step_0", "step_1"], "step_2", ["step_3", "step_4"])
    for arguments, reason in (((codebase, 2**40), "CHUNK_NOT_FOUND"), (("not-there", chunk_id), "CODEBASE_NOT_FOUND")):
        with pytest.raises(ClientError) as error:
            client.get_chunk(*arguments)
        assert error.value.reason == reason
    with pytest.raises(ClientError, match="neighbor_count: is 21; use 0 to 20"):
        client.get_chunk(codebase, chunk_id, neighbor_count=21)


def test_a_search_while_one_types_leaves_no_trace(client: Client, codebase: str, repository: GitRepository) -> None:
    """It could not be judged anyway."""
    sync_tree(client, repository.folder, codebase)
    assert client.search(codebase, "jso", unlogged=True).search_id == ""
    assert client.search(codebase, "json").search_id != ""


def test_what_is_written_under_a_watch_is_found(stack: Stack, client: Client, codebase: str, tmp_path: Path) -> None:
    """With a real forward pass; that it takes less than two seconds was measured by hand."""
    (tmp_path / "files.py").write_text(LOAD)
    reports: queue.Queue[IndexReport] = queue.Queue()
    stop = threading.Event()

    def watch() -> None:
        with Client(stack.endpoint, api_key=stack.api_key) as own:
            watch_tree(own, tmp_path, codebase, on_report=reports.put, on_away=lambda *_: None, stop=stop)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        assert counts(reports.get(timeout=60)) == (1, 0, 0)
        (tmp_path / "queue.py").write_text(TAKE)
        assert counts(reports.get(timeout=60)) == (1, 0, 0)
        assert client.search(codebase, "take from a queue").hits[0].chunk.path == "queue.py"
        (tmp_path / "queue.py").rename(tmp_path / "moved.py")
        assert counts(reports.get(timeout=60)) == (0, 1, 1)
        assert paths(client) == ["files.py", "moved.py"]
    finally:
        stop.set()
        thread.join(60)


def test_what_others_write_beside_an_update_keeps_it_from_being_recorded(
    client: Client, codebase: str, repository: GitRepository, tmp_path: Path
) -> None:
    """Else it would pass for a part of the commit, until somebody changes the same file."""
    first = sync_tree(client, repository.folder, codebase)
    update = client.begin_update(codebase)
    assert update.revision.commit_id == first.commit_id
    (tmp_path / "json.py").write_text(LOAD)
    assert index_tree(client, tmp_path / "json.py", codebase).chunks_reused == 1
    with pytest.raises(ClientError, match="others wrote into codebase 'freshness', or began") as error:
        client.set_revision(codebase, update.revision, update_number=update.update_number)
    assert error.value.reason == "REVISION_CHANGED"
    again = sync_tree(client, repository.folder, codebase)
    assert (counts(again.index), again.recorded) == ((0, 0, 1), True)
    assert not client.get_codebase(codebase).revision.outdated


def test_a_stream_is_of_one_update(client: Client, codebase: str) -> None:
    """Whose writes the chunks of a batch are is asked once."""
    client.create_codebase(codebase)
    chunk = {"path": "a.py", "language": "python", "kind": "text", "start_line": 1, "end_line": 1, "content": "x = 1"}
    chunk |= {"file_sha256": bytes(32), "file_chunk_count": 1}
    requests = [
        index_pb.IndexChunksRequest(codebase_id=codebase, item_id=str(number), chunk=chunk, update_number=number)
        for number in (0, 7)
    ]
    replies = {reply.item_id: reply for reply in index_chunks(client, iter(requests))}
    assert replies["0"].WhichOneof("outcome") == "indexed"
    assert replies["7"].error.message == "update_number: is 7 in a stream of update 0; open a stream an update"
