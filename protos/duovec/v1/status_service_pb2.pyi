import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CacheStatus(_message.Message):
    __slots__ = ("max_text_count", "hit_count", "miss_count", "shared_count", "read_failure_count", "write_failure_count", "evicted_count")
    MAX_TEXT_COUNT_FIELD_NUMBER: _ClassVar[int]
    HIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    MISS_COUNT_FIELD_NUMBER: _ClassVar[int]
    SHARED_COUNT_FIELD_NUMBER: _ClassVar[int]
    READ_FAILURE_COUNT_FIELD_NUMBER: _ClassVar[int]
    WRITE_FAILURE_COUNT_FIELD_NUMBER: _ClassVar[int]
    EVICTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    max_text_count: int
    hit_count: int
    miss_count: int
    shared_count: int
    read_failure_count: int
    write_failure_count: int
    evicted_count: int
    def __init__(self, max_text_count: _Optional[int] = ..., hit_count: _Optional[int] = ..., miss_count: _Optional[int] = ..., shared_count: _Optional[int] = ..., read_failure_count: _Optional[int] = ..., write_failure_count: _Optional[int] = ..., evicted_count: _Optional[int] = ...) -> None: ...

class RecallCheck(_message.Message):
    __slots__ = ("codebase_id", "check_time", "method", "ef", "raised", "index_suffices", "searched_exactly", "query_count", "mean_recall", "minimum_recall", "target_recall", "vector_count")
    CODEBASE_ID_FIELD_NUMBER: _ClassVar[int]
    CHECK_TIME_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    EF_FIELD_NUMBER: _ClassVar[int]
    RAISED_FIELD_NUMBER: _ClassVar[int]
    INDEX_SUFFICES_FIELD_NUMBER: _ClassVar[int]
    SEARCHED_EXACTLY_FIELD_NUMBER: _ClassVar[int]
    QUERY_COUNT_FIELD_NUMBER: _ClassVar[int]
    MEAN_RECALL_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_RECALL_FIELD_NUMBER: _ClassVar[int]
    TARGET_RECALL_FIELD_NUMBER: _ClassVar[int]
    VECTOR_COUNT_FIELD_NUMBER: _ClassVar[int]
    codebase_id: str
    check_time: _timestamp_pb2.Timestamp
    method: str
    ef: int
    raised: bool
    index_suffices: bool
    searched_exactly: bool
    query_count: int
    mean_recall: float
    minimum_recall: float
    target_recall: float
    vector_count: int
    def __init__(self, codebase_id: _Optional[str] = ..., check_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., method: _Optional[str] = ..., ef: _Optional[int] = ..., raised: _Optional[bool] = ..., index_suffices: _Optional[bool] = ..., searched_exactly: _Optional[bool] = ..., query_count: _Optional[int] = ..., mean_recall: _Optional[float] = ..., minimum_recall: _Optional[float] = ..., target_recall: _Optional[float] = ..., vector_count: _Optional[int] = ...) -> None: ...

class TableStatus(_message.Message):
    __slots__ = ("table", "row_count", "dead_row_count", "table_bytes", "index_bytes", "vacuum_time")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    DEAD_ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    TABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    INDEX_BYTES_FIELD_NUMBER: _ClassVar[int]
    VACUUM_TIME_FIELD_NUMBER: _ClassVar[int]
    table: str
    row_count: int
    dead_row_count: int
    table_bytes: int
    index_bytes: int
    vacuum_time: _timestamp_pb2.Timestamp
    def __init__(self, table: _Optional[str] = ..., row_count: _Optional[int] = ..., dead_row_count: _Optional[int] = ..., table_bytes: _Optional[int] = ..., index_bytes: _Optional[int] = ..., vacuum_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Advice(_message.Message):
    __slots__ = ("subject", "finding", "command")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    FINDING_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    subject: str
    finding: str
    command: str
    def __init__(self, subject: _Optional[str] = ..., finding: _Optional[str] = ..., command: _Optional[str] = ...) -> None: ...

class MethodStatus(_message.Message):
    __slots__ = ("method", "call_count", "failed_call_count", "running_call_count", "calls_per_second", "median_milliseconds", "p99_milliseconds", "item_count")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    CALL_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILED_CALL_COUNT_FIELD_NUMBER: _ClassVar[int]
    RUNNING_CALL_COUNT_FIELD_NUMBER: _ClassVar[int]
    CALLS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    P99_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    ITEM_COUNT_FIELD_NUMBER: _ClassVar[int]
    method: str
    call_count: int
    failed_call_count: int
    running_call_count: int
    calls_per_second: float
    median_milliseconds: float
    p99_milliseconds: float
    item_count: int
    def __init__(self, method: _Optional[str] = ..., call_count: _Optional[int] = ..., failed_call_count: _Optional[int] = ..., running_call_count: _Optional[int] = ..., calls_per_second: _Optional[float] = ..., median_milliseconds: _Optional[float] = ..., p99_milliseconds: _Optional[float] = ..., item_count: _Optional[int] = ...) -> None: ...

class AdmissionStatus(_message.Message):
    __slots__ = ("pending_token_count", "max_pending_token_count", "stream_count", "max_stream_count", "waiting_batch_count", "refused_call_count", "refused_stream_count", "tokens_per_second")
    PENDING_TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_PENDING_TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    STREAM_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAM_COUNT_FIELD_NUMBER: _ClassVar[int]
    WAITING_BATCH_COUNT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_CALL_COUNT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_STREAM_COUNT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    pending_token_count: int
    max_pending_token_count: int
    stream_count: int
    max_stream_count: int
    waiting_batch_count: int
    refused_call_count: int
    refused_stream_count: int
    tokens_per_second: float
    def __init__(self, pending_token_count: _Optional[int] = ..., max_pending_token_count: _Optional[int] = ..., stream_count: _Optional[int] = ..., max_stream_count: _Optional[int] = ..., waiting_batch_count: _Optional[int] = ..., refused_call_count: _Optional[int] = ..., refused_stream_count: _Optional[int] = ..., tokens_per_second: _Optional[float] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("space", "cache", "recall_checks", "tables", "advice", "start_time", "methods", "admission")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    RECALL_CHECKS_FIELD_NUMBER: _ClassVar[int]
    TABLES_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    ADMISSION_FIELD_NUMBER: _ClassVar[int]
    space: str
    cache: CacheStatus
    recall_checks: _containers.RepeatedCompositeFieldContainer[RecallCheck]
    tables: _containers.RepeatedCompositeFieldContainer[TableStatus]
    advice: _containers.RepeatedCompositeFieldContainer[Advice]
    start_time: _timestamp_pb2.Timestamp
    methods: _containers.RepeatedCompositeFieldContainer[MethodStatus]
    admission: AdmissionStatus
    def __init__(self, space: _Optional[str] = ..., cache: _Optional[_Union[CacheStatus, _Mapping]] = ..., recall_checks: _Optional[_Iterable[_Union[RecallCheck, _Mapping]]] = ..., tables: _Optional[_Iterable[_Union[TableStatus, _Mapping]]] = ..., advice: _Optional[_Iterable[_Union[Advice, _Mapping]]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., methods: _Optional[_Iterable[_Union[MethodStatus, _Mapping]]] = ..., admission: _Optional[_Union[AdmissionStatus, _Mapping]] = ...) -> None: ...
