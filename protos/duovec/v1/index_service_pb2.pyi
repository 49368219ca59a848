from duovec.v1 import chunk_pb2 as _chunk_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IndexChunksRequest(_message.Message):
    __slots__ = ("codebase_id", "item_id", "chunk", "truncate", "space", "update_number")
    CODEBASE_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    TRUNCATE_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    codebase_id: str
    item_id: str
    chunk: _chunk_pb2.Chunk
    truncate: bool
    space: str
    update_number: int
    def __init__(self, codebase_id: _Optional[str] = ..., item_id: _Optional[str] = ..., chunk: _Optional[_Union[_chunk_pb2.Chunk, _Mapping]] = ..., truncate: _Optional[bool] = ..., space: _Optional[str] = ..., update_number: _Optional[int] = ...) -> None: ...

class IndexChunksResponse(_message.Message):
    __slots__ = ("item_id", "indexed", "error")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    INDEXED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    indexed: IndexedChunk
    error: _status_pb2.Status
    def __init__(self, item_id: _Optional[str] = ..., indexed: _Optional[_Union[IndexedChunk, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class IndexedChunk(_message.Message):
    __slots__ = ("chunk_id", "disposition", "truncated")
    class Disposition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DISPOSITION_UNSPECIFIED: _ClassVar[IndexedChunk.Disposition]
        DISPOSITION_EMBEDDED: _ClassVar[IndexedChunk.Disposition]
        DISPOSITION_REUSED: _ClassVar[IndexedChunk.Disposition]
        DISPOSITION_UNCHANGED: _ClassVar[IndexedChunk.Disposition]
    DISPOSITION_UNSPECIFIED: IndexedChunk.Disposition
    DISPOSITION_EMBEDDED: IndexedChunk.Disposition
    DISPOSITION_REUSED: IndexedChunk.Disposition
    DISPOSITION_UNCHANGED: IndexedChunk.Disposition
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    DISPOSITION_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    chunk_id: int
    disposition: IndexedChunk.Disposition
    truncated: bool
    def __init__(self, chunk_id: _Optional[int] = ..., disposition: _Optional[_Union[IndexedChunk.Disposition, str]] = ..., truncated: _Optional[bool] = ...) -> None: ...

class ListFilesRequest(_message.Message):
    __slots__ = ("codebase_id", "page_size", "page_token")
    CODEBASE_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    codebase_id: str
    page_size: int
    page_token: str
    def __init__(self, codebase_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListFilesResponse(_message.Message):
    __slots__ = ("files", "next_page_token")
    FILES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedCompositeFieldContainer[FileVersion]
    next_page_token: str
    def __init__(self, files: _Optional[_Iterable[_Union[FileVersion, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class FileVersion(_message.Message):
    __slots__ = ("path", "file_sha256", "stored_chunk_count", "file_chunk_count")
    PATH_FIELD_NUMBER: _ClassVar[int]
    FILE_SHA256_FIELD_NUMBER: _ClassVar[int]
    STORED_CHUNK_COUNT_FIELD_NUMBER: _ClassVar[int]
    FILE_CHUNK_COUNT_FIELD_NUMBER: _ClassVar[int]
    path: str
    file_sha256: bytes
    stored_chunk_count: int
    file_chunk_count: int
    def __init__(self, path: _Optional[str] = ..., file_sha256: _Optional[bytes] = ..., stored_chunk_count: _Optional[int] = ..., file_chunk_count: _Optional[int] = ...) -> None: ...

class GetChunkRequest(_message.Message):
    __slots__ = ("codebase_id", "chunk_id", "neighbor_count")
    CODEBASE_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOR_COUNT_FIELD_NUMBER: _ClassVar[int]
    codebase_id: str
    chunk_id: int
    neighbor_count: int
    def __init__(self, codebase_id: _Optional[str] = ..., chunk_id: _Optional[int] = ..., neighbor_count: _Optional[int] = ...) -> None: ...

class GetChunkResponse(_message.Message):
    __slots__ = ("chunk", "chunks_before", "chunks_after")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_AFTER_FIELD_NUMBER: _ClassVar[int]
    chunk: StoredChunk
    chunks_before: _containers.RepeatedCompositeFieldContainer[StoredChunk]
    chunks_after: _containers.RepeatedCompositeFieldContainer[StoredChunk]
    def __init__(self, chunk: _Optional[_Union[StoredChunk, _Mapping]] = ..., chunks_before: _Optional[_Iterable[_Union[StoredChunk, _Mapping]]] = ..., chunks_after: _Optional[_Iterable[_Union[StoredChunk, _Mapping]]] = ...) -> None: ...

class StoredChunk(_message.Message):
    __slots__ = ("chunk_id", "chunk")
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk_id: int
    chunk: _chunk_pb2.Chunk
    def __init__(self, chunk_id: _Optional[int] = ..., chunk: _Optional[_Union[_chunk_pb2.Chunk, _Mapping]] = ...) -> None: ...

class DeleteChunksRequest(_message.Message):
    __slots__ = ("codebase_id", "files", "update_number")
    class FileSelector(_message.Message):
        __slots__ = ("path", "keep_file_sha256", "delete_file_sha256", "keep_file_chunk_count")
        PATH_FIELD_NUMBER: _ClassVar[int]
        KEEP_FILE_SHA256_FIELD_NUMBER: _ClassVar[int]
        DELETE_FILE_SHA256_FIELD_NUMBER: _ClassVar[int]
        KEEP_FILE_CHUNK_COUNT_FIELD_NUMBER: _ClassVar[int]
        path: str
        keep_file_sha256: bytes
        delete_file_sha256: _containers.RepeatedScalarFieldContainer[bytes]
        keep_file_chunk_count: int
        def __init__(self, path: _Optional[str] = ..., keep_file_sha256: _Optional[bytes] = ..., delete_file_sha256: _Optional[_Iterable[bytes]] = ..., keep_file_chunk_count: _Optional[int] = ...) -> None: ...
    CODEBASE_ID_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    UPDATE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    codebase_id: str
    files: _containers.RepeatedCompositeFieldContainer[DeleteChunksRequest.FileSelector]
    update_number: int
    def __init__(self, codebase_id: _Optional[str] = ..., files: _Optional[_Iterable[_Union[DeleteChunksRequest.FileSelector, _Mapping]]] = ..., update_number: _Optional[int] = ...) -> None: ...

class DeleteChunksResponse(_message.Message):
    __slots__ = ("deleted_chunk_count",)
    DELETED_CHUNK_COUNT_FIELD_NUMBER: _ClassVar[int]
    deleted_chunk_count: int
    def __init__(self, deleted_chunk_count: _Optional[int] = ...) -> None: ...
