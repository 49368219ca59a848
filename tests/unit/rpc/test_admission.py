"""What exceeds the limits is refused at the door, with a time to come back."""

import pytest

from gateway.errors import Overloaded
from gateway.rpc import admission as admission_module
from gateway.rpc.admission import Admission


@pytest.fixture
def admission() -> Admission:
    return Admission(max_pending_texts=256, max_streams=2)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the module sees, as the one element of a list."""
    now = [0.0]
    monkeypatch.setattr(admission_module.time, "monotonic", lambda: now[0])
    return now


def refused_texts(admission: Admission, count: int) -> Overloaded:
    with pytest.raises(Overloaded) as caught, admission.texts(count):
        pass
    return caught.value


def test_texts_up_to_the_limit_are_admitted(admission: Admission) -> None:
    """The last free place is given."""
    with admission.texts(200), admission.texts(56):
        assert repr(admission) == "<Admission texts=256/256 streams=0/2>"
    assert repr(admission) == "<Admission texts=0/256 streams=0/2>"


def test_one_text_too_many_is_refused(admission: Admission) -> None:
    """The message has what is in work, what was asked and the limit."""
    with admission.texts(200):
        error = refused_texts(admission, 57)
    assert str(error) == "200 texts are in work and 57 more exceed the limit of 256; retry in 0.05 s"
    assert error.retry_after_s == pytest.approx(0.05)


def test_a_refusal_takes_no_room(admission: Admission) -> None:
    """What was refused does not count as pending."""
    with admission.texts(200):
        refused_texts(admission, 57)
        with admission.texts(56):
            pass


def test_a_failed_call_releases_its_texts(admission: Admission) -> None:
    """An error inside gives the room back."""
    with pytest.raises(KeyError), admission.texts(256):
        raise KeyError
    with admission.texts(256):
        pass


def test_the_retry_delay_follows_the_rate(admission: Admission, clock: list[float]) -> None:
    """After 100 texts in 20 s, room for 50 is told to come in 10 s."""
    with admission.texts(100):
        clock[0] += 20.0
    with admission.texts(256):
        assert refused_texts(admission, 50).retry_after_s == pytest.approx(10.0)


def test_the_rate_is_smoothed(admission: Admission, clock: list[float]) -> None:
    """One slow call moves the estimate by a tenth of the difference: 0.1 and then 1.1 s a text give 0.2."""
    for seconds in (1.0, 11.0):
        with admission.texts(10):
            clock[0] += seconds
    with admission.texts(256):
        assert refused_texts(admission, 10).retry_after_s == pytest.approx(2.0)


def test_a_failed_call_says_nothing_about_the_rate(admission: Admission, clock: list[float]) -> None:
    """A call that failed after an hour embedded nothing."""
    with pytest.raises(KeyError), admission.texts(1):
        clock[0] += 3600.0
        raise KeyError
    with admission.texts(256):
        assert refused_texts(admission, 10).retry_after_s == pytest.approx(0.1)


def test_the_retry_delay_has_a_bound(admission: Admission, clock: list[float]) -> None:
    """However slow the server was, a caller is never sent away for more than 30 s."""
    with admission.texts(1):
        clock[0] += 3600.0
    with admission.texts(256):
        assert refused_texts(admission, 256).retry_after_s == 30.0


def test_one_stream_too_many_is_refused(admission: Admission) -> None:
    """The message has the open streams and the limit."""
    with admission.stream(), admission.stream():
        with pytest.raises(Overloaded) as caught, admission.stream():
            pass
        assert str(caught.value) == "2 streams are open, the limit is 2; retry in 1 s"
        assert caught.value.retry_after_s == 1.0


def test_a_failed_stream_releases_its_place(admission: Admission) -> None:
    """An error inside closes the stream."""
    for _ in range(3):
        with pytest.raises(KeyError), admission.stream():
            raise KeyError
    assert repr(admission) == "<Admission texts=0/256 streams=0/2>"


def test_streams_and_texts_do_not_share_a_limit(admission: Admission) -> None:
    """A full house of texts leaves the streams open."""
    with admission.texts(256), admission.stream():
        assert repr(admission) == "<Admission texts=256/256 streams=1/2>"
