"""What tools answer, as text that an agent reads: short, and every place by path:line."""

from collections.abc import Iterable, Iterator, Sequence

from duovec.v1 import codebase_service_pb2 as codebase_pb
from duovec.v1 import index_service_pb2 as index_pb
from duovec.v1 import search_service_pb2 as search_pb
from gateway.cli.staleness import describe
from gateway.cli.terminal import harmless
from gateway.client.report import IndexReport

_PREVIEW_LINES = 8
_LINE_CHARS = 160
_READ_CHARS = 16_000
"""Of code in one answer of read_chunk: about 4,000 tokens."""
_FAILURES_SHOWN = 5


def hits(response: search_pb.SearchResponse, codebase_id: str) -> str:
    """The hits of a search, each with its first lines, and what one must know of how they came about."""
    count = len(response.hits)
    lines = [f"{count or 'no'} hit{'' if count == 1 else 's'} in {codebase_id}"]
    for rank, hit in enumerate(response.hits, 1):
        chunk = hit.chunk
        lines.append("")
        lines.append(f"{rank}. {chunk.path}:{chunk.start_line}-{chunk.end_line} {chunk.symbol}".rstrip())
        lines.append(f"   {chunk.kind}, {chunk.language}, score {hit.score:.3f}, chunk_id {hit.chunk_id}")
        lines += _numbered(chunk.content, chunk.start_line, limit=_PREVIEW_LINES)
    notes = list(_notes(response))
    if notes:
        lines += ["", *notes]
    return harmless("\n".join(lines))


def chunk_with_neighbors(response: index_pb.GetChunkResponse) -> str:
    """A chunk between those around it, with line numbers; what does not fit is named by its lines."""
    asked = response.chunk
    lines = [f"{asked.chunk.path}:{asked.chunk.start_line}-{asked.chunk.end_line} {asked.chunk.symbol}".rstrip()]
    left = _READ_CHARS - len(asked.chunk.content)
    shown = {asked.chunk_id}
    for stored in _nearest_first(response):
        left -= len(stored.chunk.content)
        if left < 0:
            break
        shown.add(stored.chunk_id)
    for stored in (*response.chunks_before, asked, *response.chunks_after):
        chunk = stored.chunk
        mark = " (this one)" if stored.chunk_id == asked.chunk_id else ""
        lines.append("")
        lines.append(f"-- lines {chunk.start_line}-{chunk.end_line}, chunk_id {stored.chunk_id}{mark}")
        if stored.chunk_id in shown:
            lines += _numbered(chunk.content[:_READ_CHARS], chunk.start_line)
        if stored.chunk_id not in shown or len(chunk.content) > _READ_CHARS:
            lines.append("       … left out: too long for one answer")
    return harmless("\n".join(lines))


def codebases(rows: Iterable[codebase_pb.Codebase]) -> str:
    """A line a codebase."""
    lines = []
    for row in rows:
        line = f"{row.codebase_id}: {row.chunk_count:,} chunks"
        if row.pending_chunk_count:
            line += f", {row.pending_chunk_count:,} without vector yet"
        if row.HasField("revision"):
            line += f", {describe(row.revision, None)}"
        lines.append(line)
    return harmless("\n".join(lines)) or "there is no codebase; index_folder makes one, or `duovec index`"


def indexed(report: IndexReport) -> str:
    """What an indexer did."""
    lines = [
        f"{report.codebase_id}{' (created)' if report.created else ''}: {report.files_scanned} files, "
        f"{report.files_changed} stored anew, {report.files_unchanged} unchanged, {report.files_removed} removed; "
        f"{report.chunks_embedded} chunks embedded, {report.chunks_reused} reused, {report.elapsed_s:.1f} s"
    ]
    if report.skipped:
        lines.append("skipped: " + ", ".join(f"{count} {reason}" for reason, count in report.skipped.most_common()))
    lines += [f"failed: {one.path}:{one.start_line}: {one.message}" for one in report.failures[:_FAILURES_SHOWN]]
    return harmless("\n".join(lines))


def _notes(response: search_pb.SearchResponse) -> Iterator[str]:
    """What may make hits incomplete or old."""
    for searched in response.revisions:
        yield f"note: {searched.codebase_id} was {describe(searched.revision, None)}"
    if response.missing_encoder:
        yield f"note: encoder {response.missing_encoder} is down, these are the hits of the other alone"
    if response.pending_chunk_count:
        yield f"note: {response.pending_chunk_count} chunks have no vector yet and could not be found"
    if response.query_truncated:
        yield "note: the query was cut at an encoder's limit"


def _nearest_first(response: index_pb.GetChunkResponse) -> Iterator[index_pb.StoredChunk]:
    sides: tuple[Sequence[index_pb.StoredChunk], ...] = (response.chunks_after, response.chunks_before[::-1])
    for distance in range(max(map(len, sides))):
        yield from (side[distance] for side in sides if distance < len(side))


def _numbered(content: str, start_line: int, *, limit: int | None = None) -> list[str]:
    texts = content.split("\n")
    shown = texts if limit is None else texts[:limit]
    lines = [f"{number:6} {_cut(text)}" for number, text in enumerate(shown, start_line)]
    if len(shown) < len(texts):
        lines.append(f"       … {len(texts) - len(shown)} more lines")
    return lines


def _cut(text: str) -> str:
    return text if len(text) <= _LINE_CHARS else f"{text[:_LINE_CHARS]} …"
