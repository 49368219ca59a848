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


class Unauthenticated(DuovecError):
    """The API key is malformed or unknown."""

    reason = "API_KEY_INVALID"


class ApiKeyMissing(Unauthenticated):
    """The call carries no API key."""

    reason = "API_KEY_MISSING"


class ApiKeyExpired(Unauthenticated):
    """The API key was valid until some time ago."""

    reason = "API_KEY_EXPIRED"


class ApiKeyRevoked(Unauthenticated):
    """The API key was taken back."""

    reason = "API_KEY_REVOKED"


class PermissionDenied(DuovecError):
    """The caller sees the codebase, but has too low a role on it."""

    reason = "ROLE_REQUIRED"


class AdminRequired(PermissionDenied):
    """Only an administrator may do this."""

    reason = "ADMIN_REQUIRED"


class NotFound(DuovecError):
    """No such codebase, or none that the caller may see."""

    reason = "CODEBASE_NOT_FOUND"


class ChunkNotFound(NotFound):
    """No such chunk in the codebases that were named, or none with a vector."""

    reason = "CHUNK_NOT_FOUND"


class PrincipalNotFound(NotFound):
    """No such principal, or none that the caller may see."""

    reason = "PRINCIPAL_NOT_FOUND"


class ApiKeyNotFound(NotFound):
    """No such API key, or none that the caller may see."""

    reason = "API_KEY_NOT_FOUND"


class GrantNotFound(NotFound):
    """The principal has no grant on the codebase."""

    reason = "GRANT_NOT_FOUND"


class SearchNotFound(NotFound):
    """No such search in the log, or none of the caller's, or none whose codebases the caller may still see."""

    reason = "SEARCH_NOT_FOUND"


class ModelNotFound(NotFound):
    """No model of this name."""

    reason = "MODEL_NOT_FOUND"


class TrainingRunNotFound(NotFound):
    """No such training run."""

    reason = "TRAINING_RUN_NOT_FOUND"


class TrainingScheduleNotFound(NotFound):
    """No such training schedule."""

    reason = "TRAINING_SCHEDULE_NOT_FOUND"


class AlreadyExists(DuovecError):
    """A codebase of this id exists."""

    reason = "CODEBASE_EXISTS"


class SpaceExists(AlreadyExists):
    """The served encoders make a space that is there."""

    reason = "SPACE_EXISTS"


class PrincipalExists(AlreadyExists):
    """A principal of this id exists."""

    reason = "PRINCIPAL_EXISTS"


class SpaceNotFound(NotFound):
    """No such space."""

    reason = "SPACE_NOT_FOUND"


class FailedPrecondition(DuovecError):
    """Something else must be done first; repeating the call alone does not help."""


class SpaceMismatch(FailedPrecondition):
    """Vectors of two spaces were about to meet."""

    reason = "SPACE_MISMATCH"


class SpaceNotReady(FailedPrecondition):
    """The space lacks vectors, or was not verified, or its models are not served."""

    reason = "SPACE_NOT_READY"


class SpaceIncomplete(SpaceNotReady):
    """Chunks have no vector in the space yet; where it is filled, that changes by itself."""


class SpaceInUse(FailedPrecondition):
    """The space is the active one, or was until a moment ago."""

    reason = "SPACE_IN_USE"


class RevisionChanged(FailedPrecondition):
    """Another revision of the codebase was recorded since the caller began."""

    reason = "REVISION_CHANGED"


class TrainingRunEnded(FailedPrecondition):
    """The training run succeeded or failed: there is nothing to cancel."""

    reason = "TRAINING_RUN_ENDED"


class Overloaded(DuovecError):
    """The server has as much work as it admits.

    Attributes:
        retry_after_s: When to try again, seconds.
    """

    reason = "OVERLOADED"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaExceeded(Overloaded):
    """The caller asked for more than its quota; others may still ask."""

    reason = "QUOTA_EXCEEDED"


class BackendUnavailable(DuovecError):
    """Not at this moment, mostly since a dependency is down; the call may be repeated."""


class TritonUnavailable(BackendUnavailable):
    """Triton cannot be reached or does not serve the model."""

    reason = "TRITON_UNAVAILABLE"


class DatabaseUnavailable(BackendUnavailable):
    """PostgreSQL cannot be reached."""

    reason = "DATABASE_UNAVAILABLE"


class StreamIdle(BackendUnavailable):
    """The stream had nothing in work when another needed its place: what is left goes in a new one."""

    reason = "STREAM_IDLE"


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
