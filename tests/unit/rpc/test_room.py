"""Room for what is in work: who finds none is told a time that is true also beside other work."""

from contextlib import ExitStack

import pytest

from gateway.errors import Overloaded
from gateway.rpc import room as room_module
from gateway.rpc.room import Room


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the module sees, as the one element of a list."""
    now = [1000.0]
    monkeypatch.setattr(room_module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def room(clock: list[float]) -> Room:
    """The encoders are said to finish 1,000 a second."""
    return Room(1000, "tokens", small=200, guess_rate=lambda: 1000.0)


def told(room: Room, count: int) -> float:
    with pytest.raises(Overloaded) as caught, room.hold(count):
        pass
    return caught.value.retry_after_s


def test_small_calls_take_all_and_large_ones_leave_an_eighth(room: Room) -> None:
    """Searches go on beside calls of hundreds of texts."""
    with room.hold(500), room.hold(375):
        told(room, 201)
        with room.hold(100), room.hold(25):
            assert room.pending == 1000
            told(room, 1)
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(room.hold(200))
        told(room, 1)
    assert room.pending == 0
    assert room.refused_count == 3


def test_a_call_beyond_the_limit_goes_where_no_large_one_is(room: Room) -> None:
    """It would never fit, and small calls never end."""
    with room.hold(100), room.hold(5000), room.hold(25):
        told(room, 201)
    with room.hold(201):
        told(room, 5000)


def test_the_delay_is_until_calls_end_that_hold_enough(room: Room, clock: list[float]) -> None:
    """One that holds much frees nothing before its end, of which a part is over."""
    with room.hold(800):
        clock[0] += 0.3
        with room.hold(200):
            assert told(room, 10) == pytest.approx(0.5, abs=0.2)
            assert told(room, 150) == pytest.approx(0.5, abs=0.2)


def test_the_delay_has_bounds(room: Room, clock: list[float]) -> None:
    """However little is missing, and however much."""
    with room.hold(1), ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(room.hold(199))
        clock[0] += 10
        assert told(room, 5) == 0.05
        for _ in range(300):
            last = told(room, 200)
        assert last == 30.0


def test_who_is_refused_and_comes_back_at_the_told_time_is_admitted(clock: list[float]) -> None:
    """Many at once: were all told the time of the first, most would be refused again."""
    room, begun = Room(1000, "tokens", small=200, guess_rate=lambda: 100.0), clock[0]
    running: list[tuple[float, ExitStack]] = []
    for number in range(10):
        stack = ExitStack()
        stack.enter_context(room.hold(100))
        running.append((begun + number + 1, stack))
    waiting = sorted((begun + told(room, 100), number) for number in range(25))
    assert [number for _, number in waiting] == list(range(25))
    # The encoders finish 100 a second: what was in work first, then each in its turn.
    for due, number in waiting:
        clock[0] = due
        while running and running[0][0] <= due + 1e-9:
            running.pop(0)[1].close()
        stack = ExitStack()
        stack.enter_context(room.hold(100))  # raises where the promise was false
        running.append((begun + 11 + number, stack))
    for _, stack in running:
        stack.close()


def test_the_rate_is_what_calls_got_in_a_rush(room: Room, clock: list[float]) -> None:
    """Bulk work takes nine tenths of the encoders: what calls are told is by the tenth that is left."""
    with room.hold(500), room.hold(200):
        clock[0] += 5
    clock[0] += 60
    with room.hold(500):
        clock[0] += 5
    assert room.rate == pytest.approx(1200 / 10, rel=0.2)
    with room.hold(875):
        assert told(room, 300) == pytest.approx(875 / (room.rate or 0))


def test_who_is_alone_does_not_show_what_many_get(room: Room, clock: list[float]) -> None:
    """One after the other, ten tokens take 10 ms each, and a thousand would not take a second."""
    for _ in range(100):
        with room.hold(10):
            clock[0] += 0.01
    assert room.rate == 1000.0


def test_failures_free_room_as_well(room: Room, clock: list[float]) -> None:
    with pytest.raises(KeyError), room.hold(800):
        clock[0] += 2
        raise KeyError
    assert room.rate == pytest.approx(400)
    assert room.pending == 0


def test_a_guess_is_corrected(room: Room) -> None:
    """To less, and to more where there is room; else the call is refused, and holds nothing."""
    with room.hold(600) as held:
        held.correct(100)
        with room.hold(600):
            assert room.pending == 700
            with pytest.raises(Overloaded) as caught:
                held.correct(276)
            assert str(caught.value).startswith("600 tokens are in work and 276 more exceed the limit of 875; retry")
            held.correct(275)
            assert room.pending == 875
        held.correct(5000)  # the only large one
        assert room.pending == 875
    assert room.pending == 0


def test_what_holds_nothing_is_never_refused(room: Room) -> None:
    """A request without a body, such as a probe's."""
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(room.hold(200))
        with room.hold(0), room.hold(500):
            told(room, 1)


def test_one_call_that_fails_at_once_says_nothing_of_the_rate(room: Room, clock: list[float]) -> None:
    with room.hold(800):
        clock[0] += 0.005
    assert room.rate == 1000.0


def test_small_calls_do_not_wait_for_what_large_ones_were_promised(room: Room) -> None:
    """One caller who does not wait would make everybody wait for half a minute."""
    with room.hold(875), room.hold(120):
        for _ in range(100):
            told(room, 800)
        assert told(room, 10) < 2
