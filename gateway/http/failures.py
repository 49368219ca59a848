"""Errors as HTTP: a status, and a body in OpenAI's shape. Which error is what, `gateway.rpc.interceptors` decides."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import orjson
from google.rpc import code_pb2
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway import errors
from gateway.rpc.interceptors import reason_of, status_of

_STATUSES = {
    code_pb2.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    code_pb2.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    code_pb2.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    code_pb2.NOT_FOUND: HTTPStatus.NOT_FOUND,
    code_pb2.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    code_pb2.FAILED_PRECONDITION: HTTPStatus.CONFLICT,
    code_pb2.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    code_pb2.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    code_pb2.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
}
# Of what has no gRPC code of its own: what the line in the log, the metrics and the trace say of it.
_CODES = {HTTPStatus.NOT_FOUND: "UNIMPLEMENTED", HTTPStatus.METHOD_NOT_ALLOWED: "UNIMPLEMENTED"}
# Codes that OpenAI's clients know; any other reason is its own code, in lower case.
_OPENAI_CODES = {
    "API_KEY_MISSING": "invalid_api_key",
    "API_KEY_INVALID": "invalid_api_key",
    "API_KEY_EXPIRED": "invalid_api_key",
    "API_KEY_REVOKED": "invalid_api_key",
    "OVERLOADED": "rate_limit_exceeded",
    "QUOTA_EXCEEDED": "rate_limit_exceeded",
    "TEXT_TOO_LONG": "context_length_exceeded",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed request.

    Attributes:
        status: Of HTTP.
        code: Name of the gRPC code for the same.
        reason: Of `ErrorReason`, or the phrase of the status in the same form.
        param: Field of the request that is wrong; None where none is.
        headers: Of the reply.
    """

    status: HTTPStatus
    code: str
    reason: str
    message: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, exc: Exception) -> "Failure":
        """What a caller gets for an error; what was not foreseen is logged, and hidden from the caller."""
        if isinstance(exc, HTTPException):
            status = HTTPStatus(exc.status_code)
            return cls(
                status,
                _CODES.get(status, "INVALID_ARGUMENT"),
                status.name,
                exc.detail,
                headers=exc.headers or {},
            )
        known = status_of(exc)
        status = _STATUSES.get(known.code, HTTPStatus.INTERNAL_SERVER_ERROR)
        return cls(
            status,
            code_pb2.Code.Name(known.code),
            reason_of(exc),
            known.message,
            exc.field if isinstance(exc, errors.InvalidInput) else None,
            _headers(exc),
        )

    def response(self) -> Response:
        """The reply, in OpenAI's shape, with `reason` beside it."""
        error = {
            "message": self.message,
            "type": _type(self.status),
            "param": self.param,
            "code": _OPENAI_CODES.get(self.reason, self.reason.lower()),
            "reason": self.reason,
        }
        return Response(orjson.dumps({"error": error}), self.status, dict(self.headers), "application/json")


def _type(status: HTTPStatus) -> str:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "requests"
    return "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"


def _headers(exc: Exception) -> dict[str, str]:
    if isinstance(exc, errors.Overloaded):
        # Whole seconds are all that HTTP has; OpenAI's clients read the milliseconds first.
        delay_ms = max(1, math.ceil(exc.retry_after_s * 1000))
        return {"retry-after": str(math.ceil(delay_ms / 1000)), "retry-after-ms": str(delay_ms)}
    return {"www-authenticate": "Bearer"} if isinstance(exc, errors.Unauthenticated) else {}
