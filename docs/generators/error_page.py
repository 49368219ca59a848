"""The reference of errors, from `error_reason.proto`, the gateway's errors, and what the doors make of them."""

import logging
from collections.abc import Iterator

import grpc
from markdown_tables import table
from proto_pages import read_protos

from gateway import errors
from gateway.client.errors import ClientError
from gateway.http.failures import Failure

_INTRODUCTION = """# Errors

Every call that the service fails carries one `google.rpc.ErrorInfo` in its status details: `domain` is `duovec`,
`reason` one of those below. Programs should look at the reason, or at the code; messages are for people, name the limit
and the value, and may change.

- INVALID_ARGUMENT also carries `google.rpc.BadRequest`, which names the field, such as `texts[3]`.
- RESOURCE_EXHAUSTED also carries `google.rpc.RetryInfo`: come back after that time, not before.
- `google.rpc.RequestInfo` has the id of the request, which stands in the gateway's log.
- Items of a stream fail one by one: the reply to an item is a `google.rpc.Status` with the same details, and the
  stream goes on.
- What has no ErrorInfo comes from gRPC itself. UNAVAILABLE: nothing listens there, or the connection broke.
  RESOURCE_EXHAUSTED: a message is too large; do not repeat it.

Over HTTP the body is `{"error": {"message", "type", "param", "code", "reason"}}`, as OpenAI's clients read it;
RESOURCE_EXHAUSTED has `Retry-After` (seconds) and `retry-after-ms`. `code` is one that those clients know where there
is one (`invalid_api_key`, `rate_limit_exceeded`, `context_length_exceeded`), and else the reason in lower case.

*Again* says whether the same call may succeed later although nobody changed anything. That is what duovec's own client
repeats, where a repetition does no harm.
"""


def error_page() -> str:
    """The page."""
    rows = list(_rows())
    return f"{_INTRODUCTION}\n{table(['Reason', 'gRPC, HTTP', 'Meaning', 'Again'], rows)}"


def _rows() -> Iterator[list[str]]:
    (proto,) = (proto for proto in read_protos() if proto.name.endswith("error_reason.proto"))
    comments = {tuple(one.path): " ".join(one.leading_comments.split()) for one in proto.source_code_info.location}
    by_reason = {kind.reason: kind for kind in _kinds(errors.DuovecError)}
    for number, value in enumerate(proto.enum_type[0].value):
        reason = value.name.removeprefix("ERROR_REASON_")
        if reason == "UNSPECIFIED":
            continue
        code, _, meaning = comments[5, 0, 2, number].partition(": ")
        failure = _failure(by_reason[reason])
        if failure.code != code:
            raise ValueError(f"{reason}: the proto says {code}, the gateway {failure.code}")
        yield [
            f"<span id='{reason.lower()}'></span>`{reason}`",
            f"{code}, {failure.status.value}",
            meaning[0].upper() + meaning[1:],
            "yes" if _may_pass(failure) else "",
        ]


def _kinds(root: type[errors.DuovecError]) -> Iterator[type[errors.DuovecError]]:
    """The classes of errors, bases after what is derived from them: the last one of a reason is the most general."""
    for kind in root.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield from _kinds(kind)
    if root is not errors.StartupError:
        yield root


def _failure(kind: type[errors.DuovecError]) -> Failure:
    log = logging.getLogger("gateway.rpc.interceptors")
    log.disabled = True  # it would tell of errors that only this page made
    try:
        if issubclass(kind, errors.InvalidInput):
            return Failure.of(kind("field", "wrong"))
        if issubclass(kind, errors.Overloaded):
            return Failure.of(kind("full", retry_after_s=1))
        return Failure.of(kind("failed"))
    finally:
        log.disabled = False


def _may_pass(failure: Failure) -> bool:
    code = grpc.StatusCode[failure.code]
    delay_s = 1.0 if code is grpc.StatusCode.RESOURCE_EXHAUSTED else None
    return ClientError("failed", code=code, reason=failure.reason, retry_delay_s=delay_s).may_pass
