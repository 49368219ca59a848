"""Stored chunks on their way out."""

from duovec.v1 import chunk_pb2
from gateway.store.rows import ChunkRow


def chunk_message(row: ChunkRow) -> chunk_pb2.Chunk:
    """A chunk as its sender gave it."""
    return chunk_pb2.Chunk(
        path=row.path,
        language=row.language,
        symbol=row.symbol,
        kind=row.kind,
        start_line=row.start_line,
        end_line=row.end_line,
        content=row.content,
        file_sha256=row.file_sha256,
        ordinal=row.ordinal,
        file_chunk_count=row.file_chunk_count,
    )
