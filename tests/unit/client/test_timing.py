"""What the service says of its time is read as it is sent."""

from gateway.client.timing import stage_times_ms
from gateway.telemetry.stages import Recorder


def test_the_gateway_s_own_form_is_understood() -> None:
    """In the order of the stages, the total last."""
    times = stage_times_ms([("x", "y"), ("server-timing", Recorder("r").server_timing())])
    assert list(times) == ["tokenize", "queue", "infer", "database", "total"]
    assert times["total"] >= 0


def test_milliseconds_are_numbers() -> None:
    assert stage_times_ms([("server-timing", "tokenize;dur=0.41, total;dur=5.20")]) == {"tokenize": 0.41, "total": 5.2}


def test_an_older_gateway_says_nothing() -> None:
    assert stage_times_ms([("x", "y")]) == {} == stage_times_ms(None)
