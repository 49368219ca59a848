"""The chunks of a file as they are sent."""

from duovec.v1 import chunk_pb2 as chunk_pb
from gateway.client.chunking import DEFAULT_MAX_CHARS, chunk_file


def chunk_messages(
    path: str, source: bytes, file_sha256: bytes, *, max_chars: int = DEFAULT_MAX_CHARS
) -> list[chunk_pb.Chunk]:
    """Cut a file, as `chunk_file` does, into messages that name their file, its version and their place in it."""
    chunks = chunk_file(path, source, max_chars=max_chars)
    return [
        chunk_pb.Chunk(
            path=path,
            language=chunk.language,
            symbol=chunk.symbol,
            kind=chunk.kind,
            start_line=chunk.start_line,
            end_line=chunk.end_line,
            content=chunk.content,
            file_sha256=file_sha256,
            ordinal=ordinal,
            file_chunk_count=len(chunks),
        )
        for ordinal, chunk in enumerate(chunks)
    ]
