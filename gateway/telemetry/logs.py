"""The log: lines for people, or JSON for programs; with the trace and the request that a line is about, and no key."""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Literal

from gateway.telemetry import stages

LogFormat = Literal["text", "json"]

_FIELDS = ("method", "code", "reason", "duration_ms", "principal_id")
# Nothing of ours logs a key; an error of a library might quote what it was given.
_SECRET = re.compile(r"\b(duovec_[a-z0-9]{12}_)[0-9a-f]{64}\b")
_PASSWORD = re.compile(r"(\bpostgres(?:ql)?://[^\s:/@]*:)[^\s@]*@")


def configure_logging(log_format: LogFormat) -> None:
    """Log to stderr from INFO on, in place of what was configured before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class TextFormatter(logging.Formatter):
    """One line of words, and the traceback of an error below it."""

    def __init__(self) -> None:
        """Time, level, logger, message."""
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Make the line."""
        return _without_secrets(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line.

    `time` (RFC 3339, UTC), `level`, `logger`, `message`; `request_id` and `trace_id` where a request runs; `method`,
    `code`, `reason`, `duration_ms` and `principal_id` of a request that has ended; `exception`, the traceback.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Make the line."""
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        recorder = stages.current()
        if recorder is not None:
            fields["request_id"] = recorder.request_id
            if recorder.span is not None:
                fields["trace_id"] = recorder.span.trace_id
        fields |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return _without_secrets(json.dumps(fields, ensure_ascii=False))


def _without_secrets(line: str) -> str:
    return _PASSWORD.sub(r"\1…@", _SECRET.sub(r"\1…", line))
