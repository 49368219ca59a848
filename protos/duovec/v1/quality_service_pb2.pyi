import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListQualityRequest(_message.Message):
    __slots__ = ("codebase_id", "space", "week_count", "page_size", "page_token")
    CODEBASE_ID_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    WEEK_COUNT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    codebase_id: str
    space: str
    week_count: int
    page_size: int
    page_token: str
    def __init__(self, codebase_id: _Optional[str] = ..., space: _Optional[str] = ..., week_count: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListQualityResponse(_message.Message):
    __slots__ = ("rows", "next_page_token")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[SearchQuality]
    next_page_token: str
    def __init__(self, rows: _Optional[_Iterable[_Union[SearchQuality, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class SearchQuality(_message.Message):
    __slots__ = ("codebase_id", "space", "week_start", "search_count", "zero_hit_count", "judged_count", "click_through_at_1", "click_through_at_3", "click_through_at_10", "mrr", "ndcg_at_10", "query_drift", "drift_query_count", "drift_reference_count")
    CODEBASE_ID_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    WEEK_START_FIELD_NUMBER: _ClassVar[int]
    SEARCH_COUNT_FIELD_NUMBER: _ClassVar[int]
    ZERO_HIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    JUDGED_COUNT_FIELD_NUMBER: _ClassVar[int]
    CLICK_THROUGH_AT_1_FIELD_NUMBER: _ClassVar[int]
    CLICK_THROUGH_AT_3_FIELD_NUMBER: _ClassVar[int]
    CLICK_THROUGH_AT_10_FIELD_NUMBER: _ClassVar[int]
    MRR_FIELD_NUMBER: _ClassVar[int]
    NDCG_AT_10_FIELD_NUMBER: _ClassVar[int]
    QUERY_DRIFT_FIELD_NUMBER: _ClassVar[int]
    DRIFT_QUERY_COUNT_FIELD_NUMBER: _ClassVar[int]
    DRIFT_REFERENCE_COUNT_FIELD_NUMBER: _ClassVar[int]
    codebase_id: str
    space: str
    week_start: _timestamp_pb2.Timestamp
    search_count: int
    zero_hit_count: int
    judged_count: int
    click_through_at_1: float
    click_through_at_3: float
    click_through_at_10: float
    mrr: float
    ndcg_at_10: float
    query_drift: float
    drift_query_count: int
    drift_reference_count: int
    def __init__(self, codebase_id: _Optional[str] = ..., space: _Optional[str] = ..., week_start: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., search_count: _Optional[int] = ..., zero_hit_count: _Optional[int] = ..., judged_count: _Optional[int] = ..., click_through_at_1: _Optional[float] = ..., click_through_at_3: _Optional[float] = ..., click_through_at_10: _Optional[float] = ..., mrr: _Optional[float] = ..., ndcg_at_10: _Optional[float] = ..., query_drift: _Optional[float] = ..., drift_query_count: _Optional[int] = ..., drift_reference_count: _Optional[int] = ...) -> None: ...
