"""Coroutines run at once, and fail as one of them failed."""

import asyncio

import pytest

from gateway.concurrency import run_all
from gateway.errors import Overloaded


async def test_results_keep_the_order_of_the_coroutines() -> None:
    """The first result is that of the first coroutine, though it finishes last."""
    second_ran = asyncio.Event()

    async def first() -> int:
        await second_ran.wait()
        return 1

    async def second() -> int:
        second_ran.set()
        return 2

    assert await run_all([first(), second()]) == [1, 2]


async def test_nothing_to_run_gives_nothing() -> None:
    """No coroutines give an empty list."""
    assert await run_all([]) == []


async def test_the_first_failure_is_raised_as_itself_and_cancels_the_rest() -> None:
    """Callers see the very exception, not a group, and the others are cancelled."""
    failure = Overloaded("full", retry_after_s=1.0)
    cancelled = asyncio.Event()

    async def fail() -> None:
        raise failure

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(Overloaded) as caught:
        await run_all([hang(), fail()])
    assert caught.value is failure
    assert cancelled.is_set()


async def test_the_failure_of_a_nested_run_is_raised_as_itself() -> None:
    """Groups inside groups are unwrapped down to the exception."""

    async def fail() -> None:
        raise KeyError("inner")

    with pytest.raises(KeyError, match="inner"):
        await run_all([run_all([fail()])])


async def test_the_cause_of_the_failure_is_kept() -> None:
    """What an error was translated from stays attached to it."""
    cause = OSError("socket closed")

    async def fail() -> None:
        raise ValueError("translated") from cause

    with pytest.raises(ValueError, match="translated") as caught:
        await run_all([fail()])
    assert caught.value.__cause__ is cause


async def test_cancelling_the_caller_cancels_what_runs() -> None:
    """A cancelled caller leaves no task behind, and is itself cancelled."""
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    task = asyncio.create_task(run_all([hang()]))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()
