"""Several Tritons that serve the same repository, used as one.

Work goes to the one with the least of it; what one cannot do because it is away, full, or serves other models, another
one does. Each is proven by itself, again whenever it was away: no vector comes from one that was not.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.concurrency import run_all
from gateway.embedding.addresses import Addresses, Resolve, resolve
from gateway.embedding.load import BackendStatistics
from gateway.embedding.proof import ProvenEncoders
from gateway.embedding.space import Encoder, InputType
from gateway.embedding.triton import ROWS_PER_REQUEST, Priority, TritonClient, Work
from gateway.errors import BadVector, DeadlineExceeded, DuovecError, Overloaded, SpaceMismatch, TritonUnavailable

logger = logging.getLogger(__name__)

_RESOLVE_PERIOD_S = 5.0
_RESOLVE_AT_MOST_EVERY_S = 0.5
# How long one that failed is asked only where nobody else is left: one that is away says so at once, one that hangs
# costs a deadline.
_AWAY_S, _HANGING_S = 1.0, 10.0


@dataclass(slots=True, eq=False)
class _Member:
    url: str
    client: TritonClient
    encoders: ProvenEncoders
    pending_tokens: int = 0
    call_count: int = 0
    avoided_until: float = 0.0
    mismatch: str = ""
    retired: bool = False

    def avoid(self, seconds: float) -> None:
        self.avoided_until = time.monotonic() + seconds


class TritonFleet:
    """One or more Tritons; runs encoders as `ProvenEncoders` does.

    Attributes:
        meter: How fast all of them work together.
        loads: What each encoder was asked for, by its name.
    """

    def __init__(self, urls: str, *, concurrency: int, resolve: Resolve = resolve) -> None:
        """Prepare to connect; nothing is sent yet, and no address known before `refresh`.

        Args:
            urls: `host:port`, or several, separated by commas. A name stands for every address that it has, now and
                later: `run` looks again.
            concurrency: Requests of one priority to one encoder of one Triton in flight at once.
            resolve: Finds the addresses of names.
        """
        self._addresses = Addresses(urls, resolve)
        self._concurrency = concurrency
        self._members: dict[str, _Member] = {}
        self._work = Work()
        self.meter, self.loads = self._work.meter, self._work.loads
        # Of each encoder: what takes turns with another encoder would meet the same Triton each time.
        self._turns: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def urls(self) -> list[str]:
        """The addresses in use, `address:port` each."""
        return sorted(self._members)

    async def run(self) -> None:
        """Follow what the names stand for until cancelled: every few seconds, and when a Triton went away."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RESOLVE_PERIOD_S):
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self.refresh()
            except Exception:  # it must not end the task, which nobody waits for before the shutdown
                logger.exception("the addresses of Triton were not looked up")
            await asyncio.sleep(_RESOLVE_AT_MOST_EVERY_S)

    async def refresh(self) -> None:
        """Look up what the names stand for, and use that."""
        found = await self._addresses.look()
        for url in found - set(self._members):
            client = TritonClient(url, concurrency=self._concurrency, work=self._work)
            self._members[url] = _Member(url, client, ProvenEncoders(client))
        for url in set(self._members) - found:
            member = self._members.pop(url)
            member.retired = True
            self._close_if_idle(member)

    @asynccontextmanager
    async def _working(self, member: _Member, tokens: int) -> AsyncIterator[None]:
        member.pending_tokens += tokens
        member.call_count += 1
        try:
            yield
        finally:
            member.pending_tokens -= tokens
            member.call_count -= 1
            self._close_if_idle(member)

    def _close_if_idle(self, member: _Member) -> None:
        """Close a retired one after its last call, which does not wait for that."""
        if member.retired and member.call_count == 0:
            closing = asyncio.create_task(member.client.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close every channel."""
        await asyncio.gather(*(member.client.close() for member in self._members.values()), *self._closing)

    async def check_ready(self, encoder: Encoder, *, timeout_s: float) -> None:
        """Check that one Triton at least serves this version of an encoder.

        Raises:
            TritonUnavailable: None does.
        """

        async def check(member: _Member) -> None:
            await member.encoders.check_ready(encoder, timeout_s=timeout_s)

        await self._any(check)

    async def prove(self, encoder: Encoder, *, timeout_s: float) -> None:
        """Prove an encoder on one Triton at least; each other one is proven before its first use.

        Raises:
            SpaceMismatch, TritonUnavailable, Overloaded, DeadlineExceeded, BackendFault: As `ProvenEncoders.prove`, of
                one of them, where no Triton could be proven.
        """

        async def prove(member: _Member) -> None:
            await member.encoders.prove(encoder, timeout_s=timeout_s)
            self._matches(member, None)

        await self._any(prove)

    def doubt(self, encoder: Encoder) -> None:
        """Prove an encoder again on every Triton before its next use there."""
        for member in self._members.values():
            member.encoders.doubt(encoder)

    async def statistics(self, encoder: Encoder, *, timeout_s: float) -> dict[str, BackendStatistics]:
        """What each Triton that answers did with an encoder, by its address.

        Raises:
            TritonUnavailable: None answers.
        """
        members = self._some()
        found = await asyncio.gather(
            *(member.client.statistics(encoder, timeout_s=timeout_s) for member in members), return_exceptions=True
        )
        answers = {
            member.url: one for member, one in zip(members, found, strict=True) if isinstance(one, BackendStatistics)
        }
        failures = [one for one in found if isinstance(one, BaseException)]
        for failure in failures:
            if not answers or not isinstance(failure, DuovecError):
                raise failure
        return answers

    async def encode(
        self,
        encoder: Encoder,
        rows: Sequence[NDArray[np.int64]],
        input_type: InputType,
        *,
        priority: Priority,
        timeout_s: float,
    ) -> tuple[NDArray[np.float32], dict[int, BadVector]]:
        """As `ProvenEncoders.encode`; bulk work is dealt out to all that serve.

        Raises:
            SpaceMismatch: Every Triton serves another model under the name and version, or is away.
            TritonUnavailable, Overloaded: No Triton could do it.
            DeadlineExceeded, BackendFault: One failed so; no other is asked.
        """
        now = time.monotonic()
        serving = sum(member.avoided_until <= now for member in self._some())
        part_count = max(1, min(serving, len(rows) // ROWS_PER_REQUEST)) if priority is Priority.BULK else 1
        if part_count == 1:
            return await self._encode_somewhere(encoder, list(rows), input_type, priority, timeout_s)
        # Dealt by length, so that every part takes as long.
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        parts = [order[number::part_count] for number in range(part_count)]
        vectors_BD = np.empty((len(rows), encoder.dimension), dtype=np.float32)
        errors: dict[int, BadVector] = {}

        async def run(part: list[int]) -> None:
            chosen = [rows[index] for index in part]
            vectors_PD, part_errors = await self._encode_somewhere(encoder, chosen, input_type, priority, timeout_s)
            vectors_BD[part] = vectors_PD
            errors.update({part[index]: error for index, error in part_errors.items()})

        await run_all(run(part) for part in parts)
        return vectors_BD, errors

    async def _encode_somewhere(
        self,
        encoder: Encoder,
        rows: list[NDArray[np.int64]],
        input_type: InputType,
        priority: Priority,
        timeout_s: float,
    ) -> tuple[NDArray[np.float32], dict[int, BadVector]]:
        ends_at = time.monotonic() + timeout_s
        tokens = sum(len(row) for row in rows)
        tried: list[_Member] = []
        failure: DuovecError | None = None
        while (member := self._next(encoder, tried)) is not None:
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                break
            try:
                async with self._working(member, tokens):
                    result = await member.encoders.encode(
                        encoder, rows, input_type, priority=priority, timeout_s=left_s
                    )
                self._matches(member, None)
                return result
            except (Overloaded, SpaceMismatch, TritonUnavailable) as exc:
                failure = self._worse(failure, exc)
                self._failed(member, exc)
            except DeadlineExceeded as exc:
                self._failed(member, exc)
                raise
            tried.append(member)
        raise failure or DeadlineExceeded(f"encoder {encoder.name} did not answer in {timeout_s:.3g} s")

    async def _any(self, ask: Callable[[_Member], Awaitable[None]]) -> None:
        """Ask all at once; return with the first that does what is asked, so that one that hangs delays nobody."""
        failure: DuovecError | None = None

        async def answered(member: _Member) -> DuovecError | None:
            try:
                await ask(member)
            except DuovecError as exc:
                self._failed(member, exc)
                return exc
            return None

        tasks = [asyncio.ensure_future(answered(member)) for member in self._some()]
        try:
            for task in asyncio.as_completed(tasks):
                exc = await task
                if exc is None:
                    return
                failure = self._worse(failure, exc)
        finally:
            for pending in tasks:
                pending.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if failure is not None:
            raise failure

    def _some(self) -> list[_Member]:
        """All of them, one at least.

        Raises:
            TritonUnavailable: No name could be looked up yet.
        """
        if not self._members:
            raise TritonUnavailable(f"no address of Triton is known; {self._addresses.unknown}")
        return list(self._members.values())

    def _next(self, encoder: Encoder, tried: Sequence[_Member]) -> _Member | None:
        """The one with the least to do, those that failed lately last; in turns where they are equal."""
        now, members = time.monotonic(), self._some()
        self._turns[encoder.name] += 1
        first = self._turns[encoder.name]
        turned = [members[(first + offset) % len(members)] for offset in range(len(members))]
        left = [member for member in turned if member not in tried]
        return min(left, key=lambda member: (member.avoided_until > now, member.pending_tokens), default=None)

    def _failed(self, member: _Member, exc: DuovecError) -> None:
        if isinstance(exc, TritonUnavailable):
            member.avoid(_AWAY_S)
            self._changed.set()
        elif isinstance(exc, DeadlineExceeded):
            member.avoid(_HANGING_S)
        elif isinstance(exc, SpaceMismatch):
            member.avoid(_HANGING_S)
            self._matches(member, exc)

    def _matches(self, member: _Member, exc: SpaceMismatch | None) -> None:
        """Say so once when a Triton is found to serve other models, as long as another one does the work."""
        mismatch = "" if exc is None else str(exc)
        if mismatch and not member.mismatch and len(self._members) > 1:
            logger.warning("Triton at %s is not used: %s", member.url, mismatch)
        member.mismatch = mismatch

    @staticmethod
    def _worse(before: DuovecError | None, exc: DuovecError) -> DuovecError:
        """What the caller is told when nobody could: that one is full before that one is away, for it passes."""
        return before if isinstance(before, Overloaded) else exc
