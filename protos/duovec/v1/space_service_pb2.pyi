import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SpaceState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPACE_STATE_UNSPECIFIED: _ClassVar[SpaceState]
    SPACE_STATE_BUILDING: _ClassVar[SpaceState]
    SPACE_STATE_ACTIVE: _ClassVar[SpaceState]
    SPACE_STATE_STANDBY: _ClassVar[SpaceState]
    SPACE_STATE_DROPPING: _ClassVar[SpaceState]
SPACE_STATE_UNSPECIFIED: SpaceState
SPACE_STATE_BUILDING: SpaceState
SPACE_STATE_ACTIVE: SpaceState
SPACE_STATE_STANDBY: SpaceState
SPACE_STATE_DROPPING: SpaceState

class SpaceEncoder(_message.Message):
    __slots__ = ("name", "version", "dimension", "precision")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIMENSION_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    dimension: int
    precision: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., dimension: _Optional[int] = ..., precision: _Optional[str] = ...) -> None: ...

class Space(_message.Message):
    __slots__ = ("fingerprint", "state", "code_encoder", "text_encoder", "chunk_count", "pending_chunk_count", "reembedding", "max_chunks_per_second", "error", "truncated_chunk_count", "verification", "create_time", "activate_time")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CODE_ENCODER_FIELD_NUMBER: _ClassVar[int]
    TEXT_ENCODER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_COUNT_FIELD_NUMBER: _ClassVar[int]
    PENDING_CHUNK_COUNT_FIELD_NUMBER: _ClassVar[int]
    REEMBEDDING_FIELD_NUMBER: _ClassVar[int]
    MAX_CHUNKS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_CHUNK_COUNT_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ACTIVATE_TIME_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    state: SpaceState
    code_encoder: SpaceEncoder
    text_encoder: SpaceEncoder
    chunk_count: int
    pending_chunk_count: int
    reembedding: bool
    max_chunks_per_second: float
    error: str
    truncated_chunk_count: int
    verification: SpaceVerification
    create_time: _timestamp_pb2.Timestamp
    activate_time: _timestamp_pb2.Timestamp
    def __init__(self, fingerprint: _Optional[str] = ..., state: _Optional[_Union[SpaceState, str]] = ..., code_encoder: _Optional[_Union[SpaceEncoder, _Mapping]] = ..., text_encoder: _Optional[_Union[SpaceEncoder, _Mapping]] = ..., chunk_count: _Optional[int] = ..., pending_chunk_count: _Optional[int] = ..., reembedding: _Optional[bool] = ..., max_chunks_per_second: _Optional[float] = ..., error: _Optional[str] = ..., truncated_chunk_count: _Optional[int] = ..., verification: _Optional[_Union[SpaceVerification, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., activate_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SpaceVerification(_message.Message):
    __slots__ = ("passed", "faults", "time", "recomputed_count", "min_cosine", "mean_recall", "min_recall", "question_count", "mrr", "active_mrr", "notices")
    PASSED_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    RECOMPUTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    MIN_COSINE_FIELD_NUMBER: _ClassVar[int]
    MEAN_RECALL_FIELD_NUMBER: _ClassVar[int]
    MIN_RECALL_FIELD_NUMBER: _ClassVar[int]
    QUESTION_COUNT_FIELD_NUMBER: _ClassVar[int]
    MRR_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_MRR_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    passed: bool
    faults: _containers.RepeatedScalarFieldContainer[str]
    time: _timestamp_pb2.Timestamp
    recomputed_count: int
    min_cosine: float
    mean_recall: float
    min_recall: float
    question_count: int
    mrr: float
    active_mrr: float
    notices: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, passed: _Optional[bool] = ..., faults: _Optional[_Iterable[str]] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., recomputed_count: _Optional[int] = ..., min_cosine: _Optional[float] = ..., mean_recall: _Optional[float] = ..., min_recall: _Optional[float] = ..., question_count: _Optional[int] = ..., mrr: _Optional[float] = ..., active_mrr: _Optional[float] = ..., notices: _Optional[_Iterable[str]] = ...) -> None: ...

class ListSpacesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSpacesResponse(_message.Message):
    __slots__ = ("spaces", "served_space")
    SPACES_FIELD_NUMBER: _ClassVar[int]
    SERVED_SPACE_FIELD_NUMBER: _ClassVar[int]
    spaces: _containers.RepeatedCompositeFieldContainer[Space]
    served_space: str
    def __init__(self, spaces: _Optional[_Iterable[_Union[Space, _Mapping]]] = ..., served_space: _Optional[str] = ...) -> None: ...

class GetSpaceRequest(_message.Message):
    __slots__ = ("space",)
    SPACE_FIELD_NUMBER: _ClassVar[int]
    space: str
    def __init__(self, space: _Optional[str] = ...) -> None: ...

class GetSpaceResponse(_message.Message):
    __slots__ = ("space",)
    SPACE_FIELD_NUMBER: _ClassVar[int]
    space: Space
    def __init__(self, space: _Optional[_Union[Space, _Mapping]] = ...) -> None: ...

class BuildSpaceRequest(_message.Message):
    __slots__ = ("code_version", "text_version")
    CODE_VERSION_FIELD_NUMBER: _ClassVar[int]
    TEXT_VERSION_FIELD_NUMBER: _ClassVar[int]
    code_version: int
    text_version: int
    def __init__(self, code_version: _Optional[int] = ..., text_version: _Optional[int] = ...) -> None: ...

class BuildSpaceResponse(_message.Message):
    __slots__ = ("space",)
    SPACE_FIELD_NUMBER: _ClassVar[int]
    space: Space
    def __init__(self, space: _Optional[_Union[Space, _Mapping]] = ...) -> None: ...

class ReembedSpaceRequest(_message.Message):
    __slots__ = ("space", "max_chunks_per_second", "stop")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    MAX_CHUNKS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    space: str
    max_chunks_per_second: float
    stop: bool
    def __init__(self, space: _Optional[str] = ..., max_chunks_per_second: _Optional[float] = ..., stop: _Optional[bool] = ...) -> None: ...

class ReembedSpaceResponse(_message.Message):
    __slots__ = ("space",)
    SPACE_FIELD_NUMBER: _ClassVar[int]
    space: Space
    def __init__(self, space: _Optional[_Union[Space, _Mapping]] = ...) -> None: ...

class ActivateSpaceRequest(_message.Message):
    __slots__ = ("space",)
    SPACE_FIELD_NUMBER: _ClassVar[int]
    space: str
    def __init__(self, space: _Optional[str] = ...) -> None: ...

class ActivateSpaceResponse(_message.Message):
    __slots__ = ("space",)
    SPACE_FIELD_NUMBER: _ClassVar[int]
    space: Space
    def __init__(self, space: _Optional[_Union[Space, _Mapping]] = ...) -> None: ...

class RollbackSpaceRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RollbackSpaceResponse(_message.Message):
    __slots__ = ("space",)
    SPACE_FIELD_NUMBER: _ClassVar[int]
    space: Space
    def __init__(self, space: _Optional[_Union[Space, _Mapping]] = ...) -> None: ...

class DropSpaceRequest(_message.Message):
    __slots__ = ("space",)
    SPACE_FIELD_NUMBER: _ClassVar[int]
    space: str
    def __init__(self, space: _Optional[str] = ...) -> None: ...

class DropSpaceResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
