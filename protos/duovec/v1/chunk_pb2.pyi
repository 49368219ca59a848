from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Chunk(_message.Message):
    __slots__ = ("path", "language", "symbol", "kind", "start_line", "end_line", "content", "file_sha256", "ordinal", "file_chunk_count")
    PATH_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    START_LINE_FIELD_NUMBER: _ClassVar[int]
    END_LINE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    FILE_SHA256_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    FILE_CHUNK_COUNT_FIELD_NUMBER: _ClassVar[int]
    path: str
    language: str
    symbol: str
    kind: str
    start_line: int
    end_line: int
    content: str
    file_sha256: bytes
    ordinal: int
    file_chunk_count: int
    def __init__(self, path: _Optional[str] = ..., language: _Optional[str] = ..., symbol: _Optional[str] = ..., kind: _Optional[str] = ..., start_line: _Optional[int] = ..., end_line: _Optional[int] = ..., content: _Optional[str] = ..., file_sha256: _Optional[bytes] = ..., ordinal: _Optional[int] = ..., file_chunk_count: _Optional[int] = ...) -> None: ...
