"""What is seen of every call from outside, whichever door it came by: statistics, a trace, a line in the log."""

import logging
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Protocol

from gateway.store.caller import current_principal_id
from gateway.telemetry import stages
from gateway.telemetry.line_budget import LineBudget
from gateway.telemetry.requests import RequestStatistics
from gateway.telemetry.stages import Recorder, Span

logger = logging.getLogger("gateway.requests")

TIMING_KEY = "duovec-timing"
"""Metadata or header of a call: `1` asks for the times of its stages, as `server-timing` of the reply."""
REQUEST_ID_KEY = "x-request-id"
"""Metadata or header of a call: what its caller calls it in our log, 1 to 64 of A-Z, a-z, 0-9, `.`, `_` and `-`."""

_LINES_OF_STRANGERS_A_SECOND = 20
"""Of calls whose callers proved no key: anybody can make thousands."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LEVELS = {"INTERNAL": logging.ERROR, "UNKNOWN": logging.ERROR, "DATA_LOSS": logging.ERROR} | dict.fromkeys(
    ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"), logging.WARNING
)


class Tracing(Protocol):
    """Makes the spans of requests; None where one is not sampled."""

    def begin(self, method: str, metadata: Mapping[str, str]) -> Span | None:
        """Begin the span of a gRPC call, such as `duovec.v1.SearchService/Search`."""

    def begin_http(self, method: str, headers: Mapping[str, str]) -> Span | None:
        """Begin the span of an HTTP request, such as `POST /v1/embeddings`."""


class Observer:
    """Watches calls from end to end."""

    def __init__(self, statistics: RequestStatistics, *, tracing: Tracing | None, log_requests: bool) -> None:
        """Args: log_requests: Whether calls that went well have a line in the log, too."""
        self.statistics = statistics
        self._tracing = tracing
        self._log_requests = log_requests
        self._lines_of_strangers = LineBudget(_LINES_OF_STRANGERS_A_SECOND)

    def begin(self, method: str, metadata: Mapping[str, str], *, span: Callable[[Tracing], Span | None]) -> Recorder:
        """A call has come: everything that is done for it in this task from here on is recorded.

        Args:
            method: One of a bounded number of names: it labels the statistics.
            metadata: Of the call, with lower-case names.
            span: Begins its span, where spans are made.
        """
        statistics = self.statistics.of(method)
        request_id = metadata.get(REQUEST_ID_KEY, "")
        recorder = Recorder(
            request_id if _REQUEST_ID.fullmatch(request_id) else secrets.token_hex(8),
            None if self._tracing is None else span(self._tracing),
            is_told=metadata.get(TIMING_KEY) == "1",
            on_batch=statistics.observe_batch,
        )
        statistics.running_count += 1
        stages.record(recorder)
        return recorder

    def end(self, method: str, recorder: Recorder, code: str, *, is_stream: bool = False) -> None:
        """It has been answered, or has failed, with the gRPC code of this name."""
        statistics = self.statistics.of(method)
        statistics.running_count -= 1
        statistics.observe_call(code, recorder, is_stream=is_stream)
        if recorder.span is not None:
            recorder.span.end_call(code)
        if code != "OK" or self._log_requests:
            principal_id = current_principal_id()
            left_out = "" if principal_id else self._lines_of_strangers.take()
            if left_out is not None:
                _log(method, recorder, code, principal_id or "-", left_out)


def _log(method: str, recorder: Recorder, code: str, principal_id: str, left_out: str) -> None:
    """One line, without a word of the request: the message of an error may quote it, its reason does not."""
    duration_ms = recorder.elapsed_s * 1e3
    logger.log(
        _LEVELS.get(code, logging.INFO),
        "%s %s%s in %.1f ms, principal %s, request %s%s",
        method,
        code,
        f" {recorder.reason}" if recorder.reason else "",
        duration_ms,
        principal_id,
        recorder.request_id,
        left_out,
        extra={
            "method": method,
            "code": code,
            "reason": recorder.reason,
            "duration_ms": round(duration_ms, 3),
            "principal_id": principal_id,
        },
    )
