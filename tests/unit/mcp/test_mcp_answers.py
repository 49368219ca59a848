"""What tools answer: short, by path:line, and nothing that steers a terminal."""

from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

from duovec.v1 import chunk_pb2, codebase_service_pb2, index_service_pb2, search_service_pb2
from gateway.client.errors import ClientError
from gateway.mcp import rendering
from gateway.mcp.failures import explained
from gateway.mcp.http import check_loopback
from gateway.mcp.roots import Roots


def chunk(number: int, content: str, path: str = "src/a.py") -> chunk_pb2.Chunk:
    return chunk_pb2.Chunk(
        path=path,
        language="python",
        kind="function",
        symbol=f"f{number}",
        start_line=number,
        end_line=number + content.count("\n"),
        content=content,
    )


def stored(number: int, content: str) -> index_service_pb2.StoredChunk:
    return index_service_pb2.StoredChunk(chunk_id=number, chunk=chunk(number, content))


def test_hits_are_short_whatever_the_code_is() -> None:
    """Twenty hits of long lines, many lines, and control characters."""
    response = search_service_pb2.SearchResponse(pending_chunk_count=3, missing_encoder="text", query_truncated=True)
    for number in range(20):
        content = "\n".join(["x" * 5000] * 100) + "\x1b[2J"
        response.hits.add(chunk_id=number, chunk=chunk(7, content, "a\x1b[31m.py"), score=0.5)
    searched = response.revisions.add(codebase_id="mine")
    searched.revision.commit_id = "1c" * 20
    searched.revision.record_time.FromDatetime(datetime(2026, 11, 1, tzinfo=UTC))
    text = rendering.hits(response, "mine")
    assert len(text) < 20 * 8 * 200
    assert "\x1b" not in text
    assert "1. a␛[31m.py:7-106 f7\n   function, python, score 0.500, chunk_id 0\n     7 xxx" in text
    assert "… 92 more lines" in text
    assert text.endswith(
        "note: mine was indexed at 1c1c1c1c1c on 2026-11-01 00:00\n"
        "note: encoder text is down, these are the hits of the other alone\n"
        "note: 3 chunks have no vector yet and could not be found\n"
        "note: the query was cut at an encoder's limit"
    )
    assert text.startswith("20 hits in mine\n")
    assert rendering.hits(search_service_pb2.SearchResponse(), "mine") == "no hits in mine"


def test_of_long_neighbors_the_nearest_are_shown() -> None:
    """The chunk itself comes first, whatever room is left."""
    long = "y" * 150 + "\n"
    response = index_service_pb2.GetChunkResponse(
        chunk=stored(500, "def middle(): pass"),
        chunks_before=[stored(100, long * 60), stored(300, "before = 1")],
        chunks_after=[stored(600, long * 60), stored(900, "after = 1")],
    )
    text = rendering.chunk_with_neighbors(response)
    assert text.startswith("src/a.py:500-500 f500\n\n-- lines 100-160, chunk_id 100\n       … left out: too long")
    assert "-- lines 500-500, chunk_id 500 (this one)\n   500 def middle(): pass\n" in text
    assert "   300 before = 1\n" in text
    assert f"   600 {long}" in text
    assert len(text) < 25_000
    alone = rendering.chunk_with_neighbors(index_service_pb2.GetChunkResponse(chunk=stored(1, long * 1000)))
    assert "left out" in alone
    assert len(alone) < 25_000


def test_codebases_say_how_old_they_are() -> None:
    row = codebase_service_pb2.Codebase(codebase_id="mine", chunk_count=12345, pending_chunk_count=2)
    row.revision.commit_id = "ab" * 20
    row.revision.outdated = True
    row.revision.record_time.FromDatetime(datetime(2026, 11, 1, tzinfo=UTC))
    assert rendering.codebases([row, codebase_service_pb2.Codebase(codebase_id="new")]) == (
        "mine: 12,345 chunks, 2 without vector yet, indexed at ababababab on 2026-11-01 00:00, changed since\n"
        "new: 0 chunks"
    )


def test_errors_say_what_to_do_next() -> None:
    error = ClientError("too much", code=grpc.StatusCode.RESOURCE_EXHAUSTED, retry_delay_s=3)
    assert str(explained(error)) == "too much. Next: try again in 3 s."
    error = ClientError("gone\x1b[2J", code=grpc.StatusCode.NOT_FOUND, reason="CHUNK_NOT_FOUND")
    assert str(explained(error)).startswith("gone␛[2J. Next: search again")
    assert str(explained(ClientError("odd", code=grpc.StatusCode.INTERNAL))) == "odd."


def test_no_way_leads_out_of_the_roots(tmp_path: Path) -> None:
    """Dots, absolute paths, links at any place, and names that only begin alike."""
    inside, other = tmp_path / "in", tmp_path / "in-too"
    (inside / "sub").mkdir(parents=True)
    other.mkdir()
    (inside / "out").symlink_to(other)
    (inside / "self").symlink_to("sub")
    (inside / "file").write_text("x")
    roots = Roots([inside])
    assert roots.find(".") == inside.resolve()
    assert roots.find("sub") == roots.find("self") == roots.find(str(inside / "sub")) == (inside / "sub").resolve()
    for folder in ("..", "../in-too", "out", "out/..", "/", str(other), "sub/../../in-too", "/proc/self/cwd"):
        with pytest.raises(ClientError, match="in no folder that may be indexed"):
            roots.find(folder)
    for folder in ("none", "file", "~"):
        with pytest.raises(ClientError, match="there is no folder"):
            roots.find(folder)
    assert Roots([inside, other]).find(str(other)) == other.resolve()
    (tmp_path / "alias").symlink_to(inside)
    assert Roots([tmp_path / "alias"]).find("sub") == (inside / "sub").resolve()


def test_it_listens_on_this_machine_alone() -> None:
    """Keys would go over the wire in the open."""
    for host in ("127.0.0.1", "::1", "localhost", "127.1.2.3"):
        check_loopback(host)
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org", "localhost.example.org", ""):
        with pytest.raises(ClientError, match="is not this machine"):
            check_loopback(host)
