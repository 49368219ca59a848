from duovec.v1 import chunk_pb2 as _chunk_pb2
from duovec.v1 import revision_pb2 as _revision_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SearchMethod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEARCH_METHOD_UNSPECIFIED: _ClassVar[SearchMethod]
    SEARCH_METHOD_EXACT: _ClassVar[SearchMethod]
    SEARCH_METHOD_HNSW: _ClassVar[SearchMethod]
    SEARCH_METHOD_BINARY: _ClassVar[SearchMethod]

class PartialReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PARTIAL_REASON_UNSPECIFIED: _ClassVar[PartialReason]
    PARTIAL_REASON_PENDING_CHUNKS: _ClassVar[PartialReason]
    PARTIAL_REASON_CANDIDATES_EXHAUSTED: _ClassVar[PartialReason]
    PARTIAL_REASON_ENCODER_DOWN: _ClassVar[PartialReason]

class FeedbackSignal(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEEDBACK_SIGNAL_UNSPECIFIED: _ClassVar[FeedbackSignal]
    FEEDBACK_SIGNAL_OPENED: _ClassVar[FeedbackSignal]
    FEEDBACK_SIGNAL_USEFUL: _ClassVar[FeedbackSignal]
    FEEDBACK_SIGNAL_NOT_USEFUL: _ClassVar[FeedbackSignal]
SEARCH_METHOD_UNSPECIFIED: SearchMethod
SEARCH_METHOD_EXACT: SearchMethod
SEARCH_METHOD_HNSW: SearchMethod
SEARCH_METHOD_BINARY: SearchMethod
PARTIAL_REASON_UNSPECIFIED: PartialReason
PARTIAL_REASON_PENDING_CHUNKS: PartialReason
PARTIAL_REASON_CANDIDATES_EXHAUSTED: PartialReason
PARTIAL_REASON_ENCODER_DOWN: PartialReason
FEEDBACK_SIGNAL_UNSPECIFIED: FeedbackSignal
FEEDBACK_SIGNAL_OPENED: FeedbackSignal
FEEDBACK_SIGNAL_USEFUL: FeedbackSignal
FEEDBACK_SIGNAL_NOT_USEFUL: FeedbackSignal

class SearchRequest(_message.Message):
    __slots__ = ("codebase_ids", "query", "code", "like_chunk_id", "page_size", "truncate", "page_token", "filter", "min_score", "blend", "lexical_weight", "allow_degraded", "space", "unlogged", "encoder_similarities")
    CODEBASE_IDS_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    LIKE_CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    TRUNCATE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    MIN_SCORE_FIELD_NUMBER: _ClassVar[int]
    BLEND_FIELD_NUMBER: _ClassVar[int]
    LEXICAL_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    ALLOW_DEGRADED_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    UNLOGGED_FIELD_NUMBER: _ClassVar[int]
    ENCODER_SIMILARITIES_FIELD_NUMBER: _ClassVar[int]
    codebase_ids: _containers.RepeatedScalarFieldContainer[str]
    query: str
    code: str
    like_chunk_id: int
    page_size: int
    truncate: bool
    page_token: str
    filter: SearchFilter
    min_score: float
    blend: float
    lexical_weight: float
    allow_degraded: bool
    space: str
    unlogged: bool
    encoder_similarities: bool
    def __init__(self, codebase_ids: _Optional[_Iterable[str]] = ..., query: _Optional[str] = ..., code: _Optional[str] = ..., like_chunk_id: _Optional[int] = ..., page_size: _Optional[int] = ..., truncate: _Optional[bool] = ..., page_token: _Optional[str] = ..., filter: _Optional[_Union[SearchFilter, _Mapping]] = ..., min_score: _Optional[float] = ..., blend: _Optional[float] = ..., lexical_weight: _Optional[float] = ..., allow_degraded: _Optional[bool] = ..., space: _Optional[str] = ..., unlogged: _Optional[bool] = ..., encoder_similarities: _Optional[bool] = ...) -> None: ...

class SearchFilter(_message.Message):
    __slots__ = ("path_globs", "languages", "kinds")
    PATH_GLOBS_FIELD_NUMBER: _ClassVar[int]
    LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    path_globs: _containers.RepeatedScalarFieldContainer[str]
    languages: _containers.RepeatedScalarFieldContainer[str]
    kinds: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, path_globs: _Optional[_Iterable[str]] = ..., languages: _Optional[_Iterable[str]] = ..., kinds: _Optional[_Iterable[str]] = ...) -> None: ...

class SearchResponse(_message.Message):
    __slots__ = ("hits", "space", "exact", "searched_chunk_count", "pending_chunk_count", "query_truncated", "next_page_token", "method", "candidate_count", "partial", "partial_reasons", "lexical_weight", "missing_encoder", "search_id", "revisions")
    HITS_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    SEARCHED_CHUNK_COUNT_FIELD_NUMBER: _ClassVar[int]
    PENDING_CHUNK_COUNT_FIELD_NUMBER: _ClassVar[int]
    QUERY_TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_COUNT_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_REASONS_FIELD_NUMBER: _ClassVar[int]
    LEXICAL_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    MISSING_ENCODER_FIELD_NUMBER: _ClassVar[int]
    SEARCH_ID_FIELD_NUMBER: _ClassVar[int]
    REVISIONS_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[SearchHit]
    space: str
    exact: bool
    searched_chunk_count: int
    pending_chunk_count: int
    query_truncated: bool
    next_page_token: str
    method: SearchMethod
    candidate_count: int
    partial: bool
    partial_reasons: _containers.RepeatedScalarFieldContainer[PartialReason]
    lexical_weight: float
    missing_encoder: str
    search_id: str
    revisions: _containers.RepeatedCompositeFieldContainer[SearchedRevision]
    def __init__(self, hits: _Optional[_Iterable[_Union[SearchHit, _Mapping]]] = ..., space: _Optional[str] = ..., exact: _Optional[bool] = ..., searched_chunk_count: _Optional[int] = ..., pending_chunk_count: _Optional[int] = ..., query_truncated: _Optional[bool] = ..., next_page_token: _Optional[str] = ..., method: _Optional[_Union[SearchMethod, str]] = ..., candidate_count: _Optional[int] = ..., partial: _Optional[bool] = ..., partial_reasons: _Optional[_Iterable[_Union[PartialReason, str]]] = ..., lexical_weight: _Optional[float] = ..., missing_encoder: _Optional[str] = ..., search_id: _Optional[str] = ..., revisions: _Optional[_Iterable[_Union[SearchedRevision, _Mapping]]] = ...) -> None: ...

class SearchedRevision(_message.Message):
    __slots__ = ("codebase_id", "revision")
    CODEBASE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    codebase_id: str
    revision: _revision_pb2.Revision
    def __init__(self, codebase_id: _Optional[str] = ..., revision: _Optional[_Union[_revision_pb2.Revision, _Mapping]] = ...) -> None: ...

class SearchHit(_message.Message):
    __slots__ = ("chunk_id", "chunk", "score", "codebase_id", "similarity", "lexical_score", "code_similarity", "text_similarity")
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CODEBASE_ID_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    LEXICAL_SCORE_FIELD_NUMBER: _ClassVar[int]
    CODE_SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    TEXT_SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    chunk_id: int
    chunk: _chunk_pb2.Chunk
    score: float
    codebase_id: str
    similarity: float
    lexical_score: float
    code_similarity: float
    text_similarity: float
    def __init__(self, chunk_id: _Optional[int] = ..., chunk: _Optional[_Union[_chunk_pb2.Chunk, _Mapping]] = ..., score: _Optional[float] = ..., codebase_id: _Optional[str] = ..., similarity: _Optional[float] = ..., lexical_score: _Optional[float] = ..., code_similarity: _Optional[float] = ..., text_similarity: _Optional[float] = ...) -> None: ...

class RecordFeedbackRequest(_message.Message):
    __slots__ = ("search_id", "items")
    SEARCH_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    search_id: str
    items: _containers.RepeatedCompositeFieldContainer[FeedbackItem]
    def __init__(self, search_id: _Optional[str] = ..., items: _Optional[_Iterable[_Union[FeedbackItem, _Mapping]]] = ...) -> None: ...

class FeedbackItem(_message.Message):
    __slots__ = ("chunk_id", "signal")
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    chunk_id: int
    signal: FeedbackSignal
    def __init__(self, chunk_id: _Optional[int] = ..., signal: _Optional[_Union[FeedbackSignal, str]] = ...) -> None: ...

class RecordFeedbackResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
