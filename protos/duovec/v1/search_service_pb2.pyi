from duovec.v1 import chunk_pb2 as _chunk_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SearchRequest(_message.Message):
    __slots__ = ("codebase_id", "query", "page_size", "truncate")
    CODEBASE_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    TRUNCATE_FIELD_NUMBER: _ClassVar[int]
    codebase_id: str
    query: str
    page_size: int
    truncate: bool
    def __init__(self, codebase_id: _Optional[str] = ..., query: _Optional[str] = ..., page_size: _Optional[int] = ..., truncate: _Optional[bool] = ...) -> None: ...

class SearchResponse(_message.Message):
    __slots__ = ("hits", "space", "exact", "searched_chunk_count", "pending_chunk_count", "query_truncated")
    HITS_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    SEARCHED_CHUNK_COUNT_FIELD_NUMBER: _ClassVar[int]
    PENDING_CHUNK_COUNT_FIELD_NUMBER: _ClassVar[int]
    QUERY_TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[SearchHit]
    space: str
    exact: bool
    searched_chunk_count: int
    pending_chunk_count: int
    query_truncated: bool
    def __init__(self, hits: _Optional[_Iterable[_Union[SearchHit, _Mapping]]] = ..., space: _Optional[str] = ..., exact: _Optional[bool] = ..., searched_chunk_count: _Optional[int] = ..., pending_chunk_count: _Optional[int] = ..., query_truncated: _Optional[bool] = ...) -> None: ...

class SearchHit(_message.Message):
    __slots__ = ("chunk_id", "chunk", "score")
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    chunk_id: int
    chunk: _chunk_pb2.Chunk
    score: float
    def __init__(self, chunk_id: _Optional[int] = ..., chunk: _Optional[_Union[_chunk_pb2.Chunk, _Mapping]] = ..., score: _Optional[float] = ...) -> None: ...
