"""The log in both forms; no key and no password in either."""

import json
import logging
import sys

import pytest

from gateway.telemetry.logs import JsonFormatter, TextFormatter

KEY = "duovec_4fz81k0qm2xa_" + "0123456789abcdef" * 4


def record_of(message: str, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("gateway.x", logging.ERROR, __file__, 1, message, arguments, exc_info)


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_a_key_is_never_written(formatter: logging.Formatter) -> None:
    """Not in a message, not in an argument, not in a traceback; its public part stays, to find it by."""
    try:
        raise ValueError(f"no such key {KEY}")
    except ValueError as exc:
        line = formatter.format(record_of("tried %s at %s", KEY, "postgresql://duovec:hunter2@db/duovec", error=exc))
    assert KEY.rpartition("_")[2] not in line
    assert "hunter2" not in line
    assert "duovec_4fz81k0qm2xa_…" in line
    assert "ValueError" in line


def test_json_is_one_line_with_time_and_traceback() -> None:
    try:
        raise KeyError("x\ny")
    except KeyError:
        line = JsonFormatter().format(
            logging.LogRecord("gateway.x", logging.INFO, __file__, 1, "a\nb", (), sys.exc_info())
        )
    assert "\n" not in line
    fields = json.loads(line)
    assert set(fields) == {"time", "level", "logger", "message", "exception"}
    assert fields["time"].endswith("+00:00")
    assert fields["message"] == "a\nb"
    assert "KeyError" in fields["exception"]


def test_text_is_what_it_was() -> None:
    """Time, level, logger, message: people and scripts read it."""
    line = TextFormatter().format(record_of("not serving: %s", "Triton is down"))
    assert line.split(" ", 2)[2] == "ERROR gateway.x not serving: Triton is down"
