"""The one error of the client."""

from dataclasses import dataclass
from typing import Self

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field that the server refused, such as `texts[3]`, and why."""

    field: str
    description: str


class ClientError(Exception):
    """A call failed, or the client was told something impossible.

    Attributes:
        code: The gRPC status; INVALID_ARGUMENT, FAILED_PRECONDITION or DEADLINE_EXCEEDED where the client itself
            refused or gave up.
        reason: `google.rpc.ErrorInfo.reason`, a name of `ErrorReason` without its prefix; empty where none was sent.
        violations: Fields that the server refused.
        retry_delay_s: When the server wants to be asked again, seconds; None where it does not say.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode,
        reason: str = "",
        violations: tuple[FieldViolation, ...] = (),
        retry_delay_s: float | None = None,
    ) -> None:
        """Say what failed in one line."""
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.violations = violations
        self.retry_delay_s = retry_delay_s

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the way between processes; by default an exception is made anew of its message alone."""
        return _restore, (type(self), self.args, self.__dict__)

    @property
    def may_pass(self) -> bool:
        """True where the same call may succeed later."""
        if self.code == grpc.StatusCode.RESOURCE_EXHAUSTED:
            # gRPC itself says this, too, of a message that is too large: without a delay it stays so.
            return self.retry_delay_s is not None or self.reason == "OVERLOADED"
        # The client cancels only what it is done with. A server that shuts down says CANCELLED of calls that it had
        # received and not begun (https://github.com/grpc/grpc/issues/41785).
        return self.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def _restore(kind: type[ClientError], args: tuple[object, ...], attributes: dict[str, object]) -> ClientError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


def from_rpc_error(error: grpc.RpcError, endpoint: str) -> ClientError:
    """Translate what grpc raises, with the details that the server sent.

    Args:
        error: A failed call, as grpc or grpc.aio raises it.
        endpoint: Where the call went, for the message.

    Returns:
        The error to raise.
    """
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return ClientError(str(error) or "the call failed", code=grpc.StatusCode.UNKNOWN)
    code, details = error.code(), error.details() or ""
    try:
        status = rpc_status.from_call(error)
    except ValueError:  # Details that contradict the status: keep the status.
        status = None
    said = _Details.of(status)
    reason = said.reason
    message = details or code.name
    if not reason and code == grpc.StatusCode.UNAVAILABLE:
        # No ErrorInfo: this is the channel speaking, not duovec.
        if (refused := _tls_refusal(details, endpoint)) is not None:
            return refused
        message = f"nothing answers at {endpoint}: {_advice(details, endpoint)} ({details})"
    elif not reason and code == grpc.StatusCode.DEADLINE_EXCEEDED:
        message = f"{endpoint} did not answer in time"
    elif not reason and "larger than max" in details:
        message = f"the message is too large for {endpoint}: send fewer or shorter texts at once ({details})"
    return said.error(message, code)


def from_status(status: status_pb2.Status) -> ClientError:
    """Translate what the service says of one item of a stream."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return _Details.of(status).error(status.message or code.name, code)


@dataclass(slots=True)
class _Details:
    """What a status says beside code and message."""

    reason: str = ""
    retry_delay_s: float | None = None
    violations: tuple[FieldViolation, ...] = ()

    @classmethod
    def of(cls, status: status_pb2.Status | None) -> Self:
        """Read those that are known."""
        details = cls()
        for detail in status.details if status is not None else ():
            info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
            bad = error_details_pb2.BadRequest()
            if detail.Unpack(info):
                details.reason = info.reason
            elif detail.Unpack(retry):
                details.retry_delay_s = retry.retry_delay.ToTimedelta().total_seconds()
            elif detail.Unpack(bad):
                details.violations += tuple(
                    FieldViolation(entry.field, entry.description) for entry in bad.field_violations
                )
        return details

    def error(self, message: str, code: grpc.StatusCode) -> ClientError:
        """All of it."""
        return ClientError(
            message, code=code, reason=self.reason, violations=self.violations, retry_delay_s=self.retry_delay_s
        )


def _tls_refusal(details: str, endpoint: str) -> ClientError | None:
    """What is wrong with TLS itself, which no repetition mends; None where it is something else."""
    if "CERTIFICATE_VERIFY_FAILED" in details:
        why = "its certificate is not trusted; if it is yours, name its authority by --ca-file or DUOVEC_CA_FILE"
    elif "Hostname Verification Check failed" in details:
        why = "its certificate is for another name; use one that stands in it"
    elif "WRONG_VERSION_NUMBER" in details:
        why = "it does not speak TLS: use it without https://"
    else:
        return None
    return ClientError(f"{endpoint}: {why} ({details})", code=grpc.StatusCode.FAILED_PRECONDITION)


def _advice(details: str, endpoint: str) -> str:
    # Somebody is there, and hangs up before a word.
    if "failed to connect" in details and "Socket closed" in details:
        if endpoint.startswith("https://"):
            return "it may ask for a client certificate: --client-certificate and --client-key"
        return "if it speaks TLS, use https://"
    if "Failed parsing HTTP/2" in details:
        return "it does not speak gRPC; is this the port for HTTP?"
    return "is `duovec up` running?"
