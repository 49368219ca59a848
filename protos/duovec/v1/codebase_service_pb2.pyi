import datetime

from duovec.v1 import revision_pb2 as _revision_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_READ: _ClassVar[Role]
    ROLE_WRITE: _ClassVar[Role]
    ROLE_OWNER: _ClassVar[Role]
ROLE_UNSPECIFIED: Role
ROLE_READ: Role
ROLE_WRITE: Role
ROLE_OWNER: Role

class Codebase(_message.Message):
    __slots__ = ("codebase_id", "display_name", "create_time", "chunk_count", "pending_chunk_count", "revision")
    CODEBASE_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    CHUNK_COUNT_FIELD_NUMBER: _ClassVar[int]
    PENDING_CHUNK_COUNT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    codebase_id: str
    display_name: str
    create_time: _timestamp_pb2.Timestamp
    chunk_count: int
    pending_chunk_count: int
    revision: _revision_pb2.Revision
    def __init__(self, codebase_id: _Optional[str] = ..., display_name: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., chunk_count: _Optional[int] = ..., pending_chunk_count: _Optional[int] = ..., revision: _Optional[_Union[_revision_pb2.Revision, _Mapping]] = ...) -> None: ...

class CreateCodebaseRequest(_message.Message):
    __slots__ = ("codebase_id", "display_name")
    CODEBASE_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    codebase_id: str
    display_name: str
    def __init__(self, codebase_id: _Optional[str] = ..., display_name: _Optional[str] = ...) -> None: ...

class CreateCodebaseResponse(_message.Message):
    __slots__ = ("codebase",)
    CODEBASE_FIELD_NUMBER: _ClassVar[int]
    codebase: Codebase
    def __init__(self, codebase: _Optional[_Union[Codebase, _Mapping]] = ...) -> None: ...

class GetCodebaseRequest(_message.Message):
    __slots__ = ("codebase_id",)
    CODEBASE_ID_FIELD_NUMBER: _ClassVar[int]
    codebase_id: str
    def __init__(self, codebase_id: _Optional[str] = ...) -> None: ...

class GetCodebaseResponse(_message.Message):
    __slots__ = ("codebase",)
    CODEBASE_FIELD_NUMBER: _ClassVar[int]
    codebase: Codebase
    def __init__(self, codebase: _Optional[_Union[Codebase, _Mapping]] = ...) -> None: ...

class ListCodebasesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListCodebasesResponse(_message.Message):
    __slots__ = ("codebases", "next_page_token")
    CODEBASES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    codebases: _containers.RepeatedCompositeFieldContainer[Codebase]
    next_page_token: str
    def __init__(self, codebases: _Optional[_Iterable[_Union[Codebase, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteCodebaseRequest(_message.Message):
    __slots__ = ("codebase_id",)
    CODEBASE_ID_FIELD_NUMBER: _ClassVar[int]
    codebase_id: str
    def __init__(self, codebase_id: _Optional[str] = ...) -> None: ...

class DeleteCodebaseResponse(_message.Message):
    __slots__ = ("deleted_chunk_count",)
    DELETED_CHUNK_COUNT_FIELD_NUMBER: _ClassVar[int]
    deleted_chunk_count: int
    def __init__(self, deleted_chunk_count: _Optional[int] = ...) -> None: ...

class BeginUpdateRequest(_message.Message):
    __slots__ = ("codebase_id",)
    CODEBASE_ID_FIELD_NUMBER: _ClassVar[int]
    codebase_id: str
    def __init__(self, codebase_id: _Optional[str] = ...) -> None: ...

class BeginUpdateResponse(_message.Message):
    __slots__ = ("update_number", "revision")
    UPDATE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    update_number: int
    revision: _revision_pb2.Revision
    def __init__(self, update_number: _Optional[int] = ..., revision: _Optional[_Union[_revision_pb2.Revision, _Mapping]] = ...) -> None: ...

class SetRevisionRequest(_message.Message):
    __slots__ = ("codebase_id", "revision", "expected_version", "update_number")
    CODEBASE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    UPDATE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    codebase_id: str
    revision: _revision_pb2.Revision
    expected_version: int
    update_number: int
    def __init__(self, codebase_id: _Optional[str] = ..., revision: _Optional[_Union[_revision_pb2.Revision, _Mapping]] = ..., expected_version: _Optional[int] = ..., update_number: _Optional[int] = ...) -> None: ...

class SetRevisionResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: _revision_pb2.Revision
    def __init__(self, revision: _Optional[_Union[_revision_pb2.Revision, _Mapping]] = ...) -> None: ...

class MapCodebaseRequest(_message.Message):
    __slots__ = ("codebase_id", "max_point_count")
    CODEBASE_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_POINT_COUNT_FIELD_NUMBER: _ClassVar[int]
    codebase_id: str
    max_point_count: int
    def __init__(self, codebase_id: _Optional[str] = ..., max_point_count: _Optional[int] = ...) -> None: ...

class MapCodebaseResponse(_message.Message):
    __slots__ = ("points", "chunk_count", "space", "explained_variance")
    POINTS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_COUNT_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    EXPLAINED_VARIANCE_FIELD_NUMBER: _ClassVar[int]
    points: _containers.RepeatedCompositeFieldContainer[MapPoint]
    chunk_count: int
    space: str
    explained_variance: float
    def __init__(self, points: _Optional[_Iterable[_Union[MapPoint, _Mapping]]] = ..., chunk_count: _Optional[int] = ..., space: _Optional[str] = ..., explained_variance: _Optional[float] = ...) -> None: ...

class MapPoint(_message.Message):
    __slots__ = ("chunk_id", "path", "language", "symbol", "kind", "start_line", "end_line", "x", "y", "neighbor_indices", "neighbor_similarities")
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    START_LINE_FIELD_NUMBER: _ClassVar[int]
    END_LINE_FIELD_NUMBER: _ClassVar[int]
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOR_INDICES_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOR_SIMILARITIES_FIELD_NUMBER: _ClassVar[int]
    chunk_id: int
    path: str
    language: str
    symbol: str
    kind: str
    start_line: int
    end_line: int
    x: float
    y: float
    neighbor_indices: _containers.RepeatedScalarFieldContainer[int]
    neighbor_similarities: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, chunk_id: _Optional[int] = ..., path: _Optional[str] = ..., language: _Optional[str] = ..., symbol: _Optional[str] = ..., kind: _Optional[str] = ..., start_line: _Optional[int] = ..., end_line: _Optional[int] = ..., x: _Optional[float] = ..., y: _Optional[float] = ..., neighbor_indices: _Optional[_Iterable[int]] = ..., neighbor_similarities: _Optional[_Iterable[float]] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("codebase_id", "principal_id", "role", "create_time")
    CODEBASE_ID_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    codebase_id: str
    principal_id: str
    role: Role
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, codebase_id: _Optional[str] = ..., principal_id: _Optional[str] = ..., role: _Optional[_Union[Role, str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SetGrantRequest(_message.Message):
    __slots__ = ("grant",)
    GRANT_FIELD_NUMBER: _ClassVar[int]
    grant: Grant
    def __init__(self, grant: _Optional[_Union[Grant, _Mapping]] = ...) -> None: ...

class SetGrantResponse(_message.Message):
    __slots__ = ("grant",)
    GRANT_FIELD_NUMBER: _ClassVar[int]
    grant: Grant
    def __init__(self, grant: _Optional[_Union[Grant, _Mapping]] = ...) -> None: ...

class ListGrantsRequest(_message.Message):
    __slots__ = ("codebase_id", "page_size", "page_token")
    CODEBASE_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    codebase_id: str
    page_size: int
    page_token: str
    def __init__(self, codebase_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListGrantsResponse(_message.Message):
    __slots__ = ("grants", "next_page_token")
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    grants: _containers.RepeatedCompositeFieldContainer[Grant]
    next_page_token: str
    def __init__(self, grants: _Optional[_Iterable[_Union[Grant, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteGrantRequest(_message.Message):
    __slots__ = ("codebase_id", "principal_id")
    CODEBASE_ID_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_ID_FIELD_NUMBER: _ClassVar[int]
    codebase_id: str
    principal_id: str
    def __init__(self, codebase_id: _Optional[str] = ..., principal_id: _Optional[str] = ...) -> None: ...

class DeleteGrantResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
