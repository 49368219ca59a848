from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    ERROR_REASON_INVALID_INPUT: _ClassVar[ErrorReason]
    ERROR_REASON_TEXT_TOO_LONG: _ClassVar[ErrorReason]
    ERROR_REASON_CODEBASE_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_CODEBASE_EXISTS: _ClassVar[ErrorReason]
    ERROR_REASON_OVERLOADED: _ClassVar[ErrorReason]
    ERROR_REASON_TRITON_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_DATABASE_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_DEADLINE_EXCEEDED: _ClassVar[ErrorReason]
    ERROR_REASON_BAD_VECTOR: _ClassVar[ErrorReason]
    ERROR_REASON_INTERNAL: _ClassVar[ErrorReason]
    ERROR_REASON_API_KEY_MISSING: _ClassVar[ErrorReason]
    ERROR_REASON_API_KEY_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_API_KEY_EXPIRED: _ClassVar[ErrorReason]
    ERROR_REASON_API_KEY_REVOKED: _ClassVar[ErrorReason]
    ERROR_REASON_ROLE_REQUIRED: _ClassVar[ErrorReason]
    ERROR_REASON_ADMIN_REQUIRED: _ClassVar[ErrorReason]
    ERROR_REASON_PRINCIPAL_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_API_KEY_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_GRANT_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_PRINCIPAL_EXISTS: _ClassVar[ErrorReason]
    ERROR_REASON_CHUNK_NOT_FOUND: _ClassVar[ErrorReason]
ERROR_REASON_UNSPECIFIED: ErrorReason
ERROR_REASON_INVALID_INPUT: ErrorReason
ERROR_REASON_TEXT_TOO_LONG: ErrorReason
ERROR_REASON_CODEBASE_NOT_FOUND: ErrorReason
ERROR_REASON_CODEBASE_EXISTS: ErrorReason
ERROR_REASON_OVERLOADED: ErrorReason
ERROR_REASON_TRITON_UNAVAILABLE: ErrorReason
ERROR_REASON_DATABASE_UNAVAILABLE: ErrorReason
ERROR_REASON_DEADLINE_EXCEEDED: ErrorReason
ERROR_REASON_BAD_VECTOR: ErrorReason
ERROR_REASON_INTERNAL: ErrorReason
ERROR_REASON_API_KEY_MISSING: ErrorReason
ERROR_REASON_API_KEY_INVALID: ErrorReason
ERROR_REASON_API_KEY_EXPIRED: ErrorReason
ERROR_REASON_API_KEY_REVOKED: ErrorReason
ERROR_REASON_ROLE_REQUIRED: ErrorReason
ERROR_REASON_ADMIN_REQUIRED: ErrorReason
ERROR_REASON_PRINCIPAL_NOT_FOUND: ErrorReason
ERROR_REASON_API_KEY_NOT_FOUND: ErrorReason
ERROR_REASON_GRANT_NOT_FOUND: ErrorReason
ERROR_REASON_PRINCIPAL_EXISTS: ErrorReason
ERROR_REASON_CHUNK_NOT_FOUND: ErrorReason
