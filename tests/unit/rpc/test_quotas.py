"""Quotas, by a clock that the test turns."""

import asyncio
import random
from typing import Any

import pytest

from gateway.errors import QuotaExceeded, TritonUnavailable
from gateway.rpc import quotas as quotas_module
from gateway.rpc.quotas import Quotas
from gateway.store.access import Quota


class Clock:
    """Stands still but for `sleep` and what the test adds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, duration_s: float) -> None:
        before = self.now
        await _real_sleep(0)
        self.now = max(self.now, before + duration_s)


_real_sleep = asyncio.sleep


class Caller:
    """Who calls, and what it may ask for, as the look-up of the key found them."""

    def __init__(self) -> None:
        self.principal_key: int | None = 1
        self.quota = Quota()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(quotas_module, "monotonic", clock.monotonic)
    monkeypatch.setattr(quotas_module.asyncio, "sleep", clock.sleep)
    return clock


@pytest.fixture
def caller(monkeypatch: pytest.MonkeyPatch) -> Caller:
    caller = Caller()
    monkeypatch.setattr(quotas_module, "current_principal_key", lambda: caller.principal_key)
    monkeypatch.setattr(quotas_module, "current_quota", lambda: caller.quota)
    return caller


class TimelessLoop(asyncio.SelectorEventLoop):
    """Where everybody sleeps, its clock is put forward to when the first wakes up."""

    def __init__(self) -> None:
        self._slept_s = 0.0
        super().__init__()
        select = self._selector.select

        def skip(timeout: float | None) -> Any:
            self._slept_s += timeout or 0.0
            return select(0)

        self._selector.select = skip

    def time(self) -> float:
        return self._slept_s


def admitted(quotas: Quotas, count: int) -> int:
    """How many of so many calls at once are let through."""
    passed = 0
    for _ in range(count):
        try:
            quotas.admit()
        except QuotaExceeded:
            continue
        passed += 1
    return passed


def spend(quotas: Quotas, token_count: int) -> None:
    """A call that succeeds."""
    with quotas.spend(token_count):
        pass


async def wait(quotas: Quotas, token_count: int) -> bool:
    """A batch that succeeds; gives whether it waited."""
    async with quotas.wait(token_count) as waited:
        return waited


def test_a_second_s_worth_may_come_at_once_and_then_as_many_as_the_limit(clock: Clock, caller: Caller) -> None:
    caller.quota = Quota(requests_per_s=10)
    quotas = Quotas(Quota())
    assert admitted(quotas, 50) == 10
    clock.now += 0.5
    assert admitted(quotas, 50) == 5
    clock.now += 3600
    assert admitted(quotas, 50) == 10


def test_less_than_one_a_second_is_still_one_at_a_time(clock: Clock, caller: Caller) -> None:
    caller.quota = Quota(requests_per_s=0.1)
    quotas = Quotas(Quota())
    assert admitted(quotas, 5) == 1
    clock.now += 9.9
    assert admitted(quotas, 5) == 0
    clock.now += 0.1
    assert admitted(quotas, 5) == 1


def test_the_delay_that_is_told_is_true(clock: Clock, caller: Caller) -> None:
    """A call that comes back when it was told is let through; one a little earlier is not."""
    generator = random.Random(7)
    for _ in range(200):
        limit = generator.choice([0.3, 1, 7, 60, 1000, 123456, 10**9])
        caller.quota = Quota(tokens_per_minute=round(limit * 60))
        quotas = Quotas(Quota())
        tokens = generator.randint(1, round(limit * 60 * 1.5))
        while True:
            try:
                spend(quotas, tokens)
            except QuotaExceeded as exc:
                delay_s = exc.retry_after_s
                break
        early_s = generator.uniform(0, 0.9) * delay_s
        clock.now += early_s
        if delay_s > 0.01:
            with pytest.raises(QuotaExceeded):
                spend(quotas, tokens)
        clock.now += delay_s - early_s
        spend(quotas, tokens)


def test_no_more_is_let_through_than_the_limit_allows(clock: Clock, caller: Caller) -> None:
    """Over any time: a minute's worth, and what the time brings, and the excess of one call over a minute's worth."""
    generator = random.Random(2560)
    caller.quota = Quota(tokens_per_minute=6000)
    quotas, spent, began = Quotas(Quota()), 0, clock.now
    for _ in range(3000):
        clock.now += generator.expovariate(2)
        tokens = generator.choice([1, 10, 500, 3000, 9000])
        try:
            spend(quotas, tokens)
        except QuotaExceeded:
            continue
        spent += tokens
        assert spent <= 6000 + (clock.now - began) * 100 + 3000 + 1
    assert spent > (clock.now - began) * 100 * 0.9


def test_a_call_with_more_than_a_minute_s_worth_goes_when_a_minute_s_is_there(clock: Clock, caller: Caller) -> None:
    """It would else never be let through, and be told a delay all the same."""
    caller.quota = Quota(tokens_per_minute=60)
    quotas = Quotas(Quota())
    spend(quotas, 90)
    with pytest.raises(
        QuotaExceeded, match=r"^1 tokens exceed your quota of 60 a minute; retry in 31.00 s$"
    ) as refused:
        spend(quotas, 1)
    assert refused.value.retry_after_s == 31
    with pytest.raises(QuotaExceeded):
        quotas.check_tokens()
    clock.now += 30
    quotas.check_tokens()


def test_principals_do_not_share_and_own_limits_win_over_the_default(clock: Clock, caller: Caller) -> None:
    quotas = Quotas(Quota(requests_per_s=2, tokens_per_minute=0))
    assert admitted(quotas, 10) == 2
    caller.principal_key = 2
    assert admitted(quotas, 10) == 2
    caller.principal_key, caller.quota = 3, Quota(requests_per_s=0)
    assert admitted(quotas, 10) == 10
    caller.principal_key, caller.quota = 4, Quota(requests_per_s=5)
    assert admitted(quotas, 10) == 5
    spend(quotas, 10**9)


def test_a_limit_that_changes_holds_from_the_next_call_on(clock: Clock, caller: Caller) -> None:
    quotas = Quotas(Quota())
    caller.quota = Quota(requests_per_s=1)
    assert admitted(quotas, 5) == 1
    caller.quota = Quota(requests_per_s=100)
    assert admitted(quotas, 50) == 0
    clock.now += 0.1
    assert admitted(quotas, 50) == 10
    caller.quota = Quota(requests_per_s=0)
    assert admitted(quotas, 500) == 500


def test_without_limits_nothing_is_kept(clock: Clock, caller: Caller) -> None:
    quotas = Quotas(Quota())
    for caller.principal_key in range(100):
        quotas.admit()
        spend(quotas, 1)
    assert repr(quotas).endswith("buckets=0+0)")


def test_full_buckets_are_forgotten_when_there_are_many(clock: Clock, caller: Caller) -> None:
    """However many principals there are; and who is in debt stays so."""
    quotas = Quotas(Quota(requests_per_s=1))
    for caller.principal_key in range(10_000):
        quotas.admit()
        clock.now += 0.001
    caller.principal_key = 10_000
    quotas.admit()
    assert len(quotas._requests) < 1100
    caller.principal_key = 9999
    with pytest.raises(QuotaExceeded):
        quotas.admit()


async def test_streams_wait_in_line_for_up_to_a_minute(clock: Clock, caller: Caller) -> None:
    """First come, first served. Silence is never longer than clients bear; who is refused is told when to come back."""
    caller.quota = Quota(tokens_per_minute=6000)
    quotas, order, refused, began = Quotas(Quota()), [], [], clock.now

    async def batch(number: int) -> None:
        try:
            waited = await wait(quotas, 3000)
        except QuotaExceeded as exc:
            refused.append((number, exc.retry_after_s))
        else:
            order.append((number, waited))

    await asyncio.gather(*(batch(number) for number in range(6)))
    assert order == [(0, False), (1, False), (2, True), (3, True)]
    assert refused == [(4, 30), (5, 30)]
    assert clock.now - began == pytest.approx(2 * 30, abs=1)


@pytest.mark.parametrize(
    ("limit", "batch_tokens", "streams"), [(3_000, 40_000, 1), (100_000, 40_000, 32), (100_000, 20_000, 32)]
)
def test_however_many_wait_nobody_hears_nothing_for_long_and_all_get_their_turn(
    monkeypatch: pytest.MonkeyPatch, caller: Caller, limit: int, batch_tokens: int, streams: int
) -> None:
    """Also behind batches that owe more than what ten minutes bring; and little of the quota is lost by it."""
    caller.quota = Quota(tokens_per_minute=limit)
    quotas, silences, told = Quotas(Quota()), [], []

    async def slot() -> None:
        while True:
            asked_at = loop.time()
            try:
                await wait(quotas, batch_tokens)
            except QuotaExceeded as exc:
                told.append(exc.retry_after_s)
                silences.append(loop.time() - asked_at)
                await asyncio.sleep(exc.retry_after_s * 1.1)
            else:
                silences.append(loop.time() - asked_at)
                return

    async def all_slots() -> None:
        await asyncio.gather(*(slot() for _ in range(4 * streams)))

    with asyncio.Runner(loop_factory=TimelessLoop) as runner:
        loop = runner.get_loop()
        monkeypatch.setattr(quotas_module, "monotonic", loop.time)
        runner.run(all_slots())
        needed_s = (4 * streams * batch_tokens - limit) / limit * 60
        assert loop.time() < needed_s * 1.2 + 120
    assert max(silences) <= 61
    assert max(told) <= 60


async def test_a_limit_that_is_raised_is_noticed_by_who_comes_again(clock: Clock, caller: Caller) -> None:
    """Where every batch of a principal waits, none would look."""
    caller.quota = Quota(tokens_per_minute=60)
    quotas = Quotas(Quota())
    spend(quotas, 3600)
    with pytest.raises(QuotaExceeded) as refused:
        await wait(quotas, 60)
    assert refused.value.retry_after_s == 60
    caller.quota = Quota(tokens_per_minute=60_000)
    clock.now += 60
    began = clock.now
    await wait(quotas, 60)
    assert clock.now - began < 5


async def test_a_stream_that_ends_while_it_waits_takes_nothing(clock: Clock, caller: Caller) -> None:
    caller.quota = Quota(tokens_per_minute=60)
    quotas = Quotas(Quota())
    spend(quotas, 60)
    waiting = asyncio.create_task(wait(quotas, 60))
    await _real_sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    clock.now += 60
    spend(quotas, 60)


async def test_a_limit_that_is_lifted_frees_who_waits(clock: Clock, caller: Caller) -> None:
    caller.quota = Quota(tokens_per_minute=1000)
    quotas, began = Quotas(Quota()), clock.now
    spend(quotas, 1000)
    waiting = asyncio.create_task(wait(quotas, 1000))
    await _real_sleep(0)
    caller.quota = Quota(tokens_per_minute=0)
    quotas.check_tokens()
    assert await waiting
    assert clock.now - began < 10


async def test_what_fails_costs_nothing(clock: Clock, caller: Caller) -> None:
    """Neither calls nor batches; and nobody gets more than a minute's worth by failing."""
    caller.quota = Quota(tokens_per_minute=60)
    quotas = Quotas(Quota())
    for _ in range(5):
        with pytest.raises(TritonUnavailable), quotas.spend(60):
            raise TritonUnavailable("Triton is away")
        with pytest.raises(TimeoutError):
            async with quotas.wait(60) as waited:
                assert not waited
                raise TimeoutError
    spend(quotas, 60)
    with pytest.raises(QuotaExceeded):
        spend(quotas, 1)


async def test_who_hangs_up_pays(clock: Clock, caller: Caller) -> None:
    """The encoders worked for it."""
    caller.quota = Quota(tokens_per_minute=60)
    quotas = Quotas(Quota())
    with pytest.raises(asyncio.CancelledError):
        async with quotas.wait(60):
            raise asyncio.CancelledError
    with pytest.raises(QuotaExceeded):
        spend(quotas, 1)


def test_nobody_has_no_quota(caller: Caller) -> None:
    """A fault of ours: the key is proven before anything is counted."""
    caller.principal_key = None
    with pytest.raises(RuntimeError, match="asked for by nobody"):
        Quotas(Quota(requests_per_s=1)).admit()
