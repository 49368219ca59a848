from duovec.v1 import vector_pb2 as _vector_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EmbedRequest(_message.Message):
    __slots__ = ("texts", "input_type", "truncate", "vector_format", "space")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    INPUT_TYPE_FIELD_NUMBER: _ClassVar[int]
    TRUNCATE_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FORMAT_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    input_type: _vector_pb2.InputType
    truncate: bool
    vector_format: _vector_pb2.VectorFormat
    space: str
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., input_type: _Optional[_Union[_vector_pb2.InputType, str]] = ..., truncate: _Optional[bool] = ..., vector_format: _Optional[_Union[_vector_pb2.VectorFormat, str]] = ..., space: _Optional[str] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("embeddings", "space")
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    embeddings: _containers.RepeatedCompositeFieldContainer[_vector_pb2.Embedding]
    space: str
    def __init__(self, embeddings: _Optional[_Iterable[_Union[_vector_pb2.Embedding, _Mapping]]] = ..., space: _Optional[str] = ...) -> None: ...

class StreamEmbedRequest(_message.Message):
    __slots__ = ("item_id", "text", "input_type", "truncate", "vector_format", "space")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    INPUT_TYPE_FIELD_NUMBER: _ClassVar[int]
    TRUNCATE_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FORMAT_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    text: str
    input_type: _vector_pb2.InputType
    truncate: bool
    vector_format: _vector_pb2.VectorFormat
    space: str
    def __init__(self, item_id: _Optional[str] = ..., text: _Optional[str] = ..., input_type: _Optional[_Union[_vector_pb2.InputType, str]] = ..., truncate: _Optional[bool] = ..., vector_format: _Optional[_Union[_vector_pb2.VectorFormat, str]] = ..., space: _Optional[str] = ...) -> None: ...

class StreamEmbedResponse(_message.Message):
    __slots__ = ("item_id", "embedding", "error", "space")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    embedding: _vector_pb2.Embedding
    error: _status_pb2.Status
    space: str
    def __init__(self, item_id: _Optional[str] = ..., embedding: _Optional[_Union[_vector_pb2.Embedding, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., space: _Optional[str] = ...) -> None: ...
