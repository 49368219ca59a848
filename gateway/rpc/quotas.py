"""How much each principal may ask for: calls a second and tokens a minute, in buckets that fill as time passes.

Whoever waits for one answer is refused, and told when there will be room. What comes in streams waits first, and
HTTP/2 flow control slows its senders down; it is refused before they take the silence for a service that hangs. The
limits came with the key's look-up, which every call and every batch begins with; the buckets are this process's own.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from time import monotonic

from gateway.errors import DuovecError, QuotaExceeded
from gateway.store.access import Quota
from gateway.store.caller import current_principal_key, current_quota

MAX_REQUESTS_PER_S = 1e6
MAX_TOKENS_PER_MINUTE = 10**12
# Beyond so many buckets the full ones are forgotten: a full bucket is what who has none gets.
_MAX_BUCKETS = 10_000
# What another batch found of a limit that was raised is noticed by who waits within this.
_LONGEST_SLEEP_S = 1.0
_LONGEST_WAIT_S = 60.0
"""Of a batch, and what it is told at most: within this an empty bucket is full, a client that sits out ten times as
much hears why nothing comes, and a limit that was raised is looked up again where nobody else calls."""
# Of what one waits for, so that who comes when it was told is not refused for the last bit of a number.
_TOLERANCE = 1e-6


@dataclass(slots=True)
class _Bucket:
    """Holds up to `capacity`, and gains `rate` a second."""

    rate: float
    capacity: float
    level: float
    filled_at: float
    line: asyncio.Lock = field(default_factory=asyncio.Lock)

    def delay_s(self, amount: float, now: float) -> float:
        """How long until `amount`, or a full bucket, may be taken if nobody else takes any, seconds; 0 for now."""
        self.level = min(self.level + (now - self.filled_at) * self.rate, self.capacity)
        self.filled_at = now
        needed = min(amount, self.capacity)
        return 0.0 if self.level >= needed * (1 - _TOLERANCE) else (needed - self.level) / self.rate

    def take(self, amount: float) -> None:
        """Take it; what exceeds a full bucket is owed."""
        self.level -= amount

    @contextmanager
    def given_back_on_failure(self, amount: float) -> Iterator[None]:
        """What the block fails to do costs nothing; who hangs up meanwhile has had the work done."""
        try:
            yield
        except (DuovecError, TimeoutError):
            self.level += amount
            raise


class Quotas:
    """The buckets of every principal that called; of the one whose key is acted with, in each method."""

    def __init__(self, default: Quota) -> None:
        """Args: default: For principals without limits of their own; 0, or None, for no limit."""
        self._default = default
        self._requests: dict[int, _Bucket] = {}
        self._tokens: dict[int, _Bucket] = {}

    def __repr__(self) -> str:
        return f"Quotas({self._default}, buckets={len(self._requests)}+{len(self._tokens)})"

    def admit(self) -> None:
        """Count one call; up to a second's worth may come at once.

        Raises:
            QuotaExceeded: It is one too many; says when it would not be.
        """
        limit = _limit(current_quota().requests_per_s, self._default.requests_per_s)
        bucket = _bucket(self._requests, rate=limit, capacity=max(limit, 1.0))
        if bucket is not None:
            _take_or_refuse(bucket, 1, f"your quota is {limit:g} calls a second")

    def check_tokens(self) -> None:
        """Refuse a call before it costs anything, where it would be refused whatever it has.

        Raises:
            QuotaExceeded: As `spend`.
        """
        with self.spend(0):
            pass

    @contextmanager
    def spend(self, token_count: int) -> Iterator[None]:
        """Count the tokens that a call embeds in the block, of both encoders; up to a minute's worth may come at once.

        A call that has more than a minute's worth is let through when a whole minute's is there, and owes the rest.
        Where the block fails, they are given back.

        Raises:
            QuotaExceeded: They are too many by now; says when they would not be.
        """
        limit = self._token_limit()
        bucket = self._token_bucket(limit)
        if bucket is None:
            yield
            return
        _take_or_refuse(bucket, token_count, _too_many(token_count, limit))
        with bucket.given_back_on_failure(token_count):
            yield

    @asynccontextmanager
    async def wait(self, token_count: int) -> AsyncIterator[bool]:
        """Count the tokens of a stream's batch, as `spend`, after waiting in line with the caller's other streams.

        Yields:
            Whether it waited: the key may have been revoked since.

        Raises:
            QuotaExceeded: Its turn does not come within a minute; says when to come back.
        """
        limit = self._token_limit()
        bucket = self._token_bucket(limit)
        if bucket is None or not token_count:
            yield False
            return
        waited, until = False, monotonic() + _LONGEST_WAIT_S
        # Who stands before it in the line came earlier, and gives up earlier.
        async with bucket.line:
            while delay_s := bucket.delay_s(token_count, now := monotonic()):
                if now + delay_s > until:
                    raise _refusal(_too_many(token_count, limit), min(delay_s, _LONGEST_WAIT_S))
                waited = True
                await asyncio.sleep(min(delay_s, _LONGEST_SLEEP_S))
            bucket.take(token_count)
        with bucket.given_back_on_failure(token_count):
            yield waited

    def _token_limit(self) -> float:
        return _limit(current_quota().tokens_per_minute, self._default.tokens_per_minute)

    def _token_bucket(self, limit: float) -> _Bucket | None:
        return _bucket(self._tokens, rate=limit / 60, capacity=limit)


def _limit(own: float | None, default: float | None) -> float:
    return (default or 0) if own is None else own


def _bucket(buckets: dict[int, _Bucket], *, rate: float, capacity: float) -> _Bucket | None:
    """The caller's bucket, with the limit that holds now; None where there is none."""
    principal_key = current_principal_key()
    if rate == 0:
        if principal_key is not None and (lifted := buckets.pop(principal_key, None)) is not None:
            lifted.capacity = lifted.level = math.inf
        return None
    if principal_key is None:
        raise RuntimeError("a quota was asked for by nobody: prove a key first")
    bucket = buckets.get(principal_key)
    if bucket is None:
        if len(buckets) >= _MAX_BUCKETS:
            _forget_full(buckets)
        bucket = buckets[principal_key] = _Bucket(rate, capacity, capacity, monotonic())
    elif (bucket.rate, bucket.capacity) != (rate, capacity):
        bucket.delay_s(0, monotonic())
        bucket.rate, bucket.capacity = rate, capacity
    return bucket


def _forget_full(buckets: dict[int, _Bucket]) -> None:
    now = monotonic()
    for principal_key, bucket in list(buckets.items()):
        bucket.delay_s(0, now)
        if bucket.level >= bucket.capacity and not bucket.line.locked():
            del buckets[principal_key]


def _take_or_refuse(bucket: _Bucket, amount: float, what: str) -> None:
    if delay_s := bucket.delay_s(amount, monotonic()):
        raise _refusal(what, delay_s)
    bucket.take(amount)


def _too_many(token_count: int, limit: float) -> str:
    return f"{token_count:,} tokens exceed your quota of {limit:,.0f} a minute"


def _refusal(what: str, delay_s: float) -> QuotaExceeded:
    # Rounded up to what a RetryInfo can say.
    delay_s = math.ceil(delay_s * 1000) / 1000
    return QuotaExceeded(f"{what}; retry in {delay_s:.2f} s", retry_after_s=delay_s)
