from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InputType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INPUT_TYPE_UNSPECIFIED: _ClassVar[InputType]
    INPUT_TYPE_QUERY: _ClassVar[InputType]
    INPUT_TYPE_PASSAGE: _ClassVar[InputType]

class VectorFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VECTOR_FORMAT_UNSPECIFIED: _ClassVar[VectorFormat]
    VECTOR_FORMAT_FLOATS: _ClassVar[VectorFormat]
    VECTOR_FORMAT_FLOAT32_LE: _ClassVar[VectorFormat]
    VECTOR_FORMAT_FLOAT16_LE: _ClassVar[VectorFormat]
INPUT_TYPE_UNSPECIFIED: InputType
INPUT_TYPE_QUERY: InputType
INPUT_TYPE_PASSAGE: InputType
VECTOR_FORMAT_UNSPECIFIED: VectorFormat
VECTOR_FORMAT_FLOATS: VectorFormat
VECTOR_FORMAT_FLOAT32_LE: VectorFormat
VECTOR_FORMAT_FLOAT16_LE: VectorFormat

class Vector(_message.Message):
    __slots__ = ("values", "float32_le", "float16_le")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    FLOAT32_LE_FIELD_NUMBER: _ClassVar[int]
    FLOAT16_LE_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    float32_le: bytes
    float16_le: bytes
    def __init__(self, values: _Optional[_Iterable[float]] = ..., float32_le: _Optional[bytes] = ..., float16_le: _Optional[bytes] = ...) -> None: ...

class Embedding(_message.Message):
    __slots__ = ("vector", "code_token_count", "text_token_count", "truncated", "cached")
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    CODE_TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    TEXT_TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    vector: Vector
    code_token_count: int
    text_token_count: int
    truncated: bool
    cached: bool
    def __init__(self, vector: _Optional[_Union[Vector, _Mapping]] = ..., code_token_count: _Optional[int] = ..., text_token_count: _Optional[int] = ..., truncated: _Optional[bool] = ..., cached: _Optional[bool] = ...) -> None: ...
