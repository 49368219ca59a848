"""Everything that can go wrong in the gateway, as one hierarchy.

Only `gateway.rpc.interceptors` turns these into gRPC statuses. The reasons are those of `ErrorReason` in
protos/duovec/v1/error_reason.proto, without the prefix.
"""


class DuovecError(Exception):
    """Base of the expected errors; its message is shown to the caller."""

    reason = "INTERNAL"


class InvalidInput(DuovecError):
    """The caller sent something malformed.

    Attributes:
        field: Path of the field in the request, such as `texts[3]`.
    """

    reason = "INVALID_INPUT"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.description = message


class TextTooLong(InvalidInput):
    """A text has more tokens than an encoder reads, and truncation was not asked for."""

    reason = "TEXT_TOO_LONG"


class NotFound(DuovecError):
    """No such codebase."""

    reason = "CODEBASE_NOT_FOUND"


class AlreadyExists(DuovecError):
    """The codebase exists."""

    reason = "CODEBASE_EXISTS"


class Overloaded(DuovecError):
    """The server has as much work as it admits.

    Attributes:
        retry_after_s: When to try again, seconds.
    """

    reason = "OVERLOADED"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BackendUnavailable(DuovecError):
    """A dependency is down; the call may be repeated."""


class TritonUnavailable(BackendUnavailable):
    """Triton cannot be reached or does not serve the model."""

    reason = "TRITON_UNAVAILABLE"


class DatabaseUnavailable(BackendUnavailable):
    """PostgreSQL cannot be reached."""

    reason = "DATABASE_UNAVAILABLE"


class DeadlineExceeded(DuovecError):
    """The caller's deadline passed."""

    reason = "DEADLINE_EXCEEDED"


class BackendFault(DuovecError):
    """A dependency answered, but not with what it must."""

    reason = "INTERNAL"


class BadVector(BackendFault):
    """An encoder answered NaN, a wrong dimension or a zero vector."""

    reason = "BAD_VECTOR"


class StartupError(DuovecError):
    """The service cannot start: a setting, a published model or a dependency is wrong."""
