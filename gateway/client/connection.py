"""The client's connection: what its calls carry, and how a call is repeated."""

import copy
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from gateway.client.backoff import backoff_s
from gateway.client.errors import ClientError, from_rpc_error
from gateway.client.rpc import Metadata, Reply, Rpc
from gateway.client.target import Target
from gateway.client.timing import ASK, stage_times_ms
from gateway.client.tracing import begin_span
from gateway.client.transport import Stream, Transport, closed


@dataclass(frozen=True, slots=True)
class _Patience:
    """How long an error is borne, in seconds, and who is told of each pause."""

    patience_s: Callable[[ClientError], float]
    on_pause: Callable[[ClientError, float], None]


def is_passing(failure: ClientError) -> bool:
    """Whether one who has long to go tries again: a deadline is the attempt's own, and says nothing of the next."""
    return failure.may_pass or failure.code == grpc.StatusCode.DEADLINE_EXCEEDED


@dataclass(slots=True)
class _State:
    """What a connection and those that `patient` made of it have in common."""

    is_closed: bool = False
    was_answered: bool = False
    """By the service, be it with an error."""


class Connection:
    """Makes calls through a transport. All that waits is a coroutine, which suspends where the transport does.

    Attributes:
        target: Where it goes.
        transport: By what.
    """

    def __init__(
        self,
        target: Target,
        transport: Transport,
        *,
        timeout_s: float,
        max_attempts: int,
        on_timing: Callable[[dict[str, float]], None] | None,
    ) -> None:
        """Args: as of `Client`."""
        self.target = target
        self.transport = transport
        self._timeout_s = timeout_s
        self._max_attempts = max_attempts
        self._on_timing = on_timing
        self._metadata: Metadata = (("authorization", f"Bearer {target.api_key}"),) if target.api_key else ()
        self._process = os.getpid()
        self._state = _State()
        self._patience: _Patience | None = None

    def patient(
        self, patience_s: Callable[[ClientError], float], on_pause: Callable[[ClientError, float], None]
    ) -> "Connection":
        """Give the same connection to one who has long to go, and waits for a service that is away for a while.

        Each attempt at a call has the whole deadline. Where nobody was ever there, it gives up as soon as others.

        Args:
            patience_s: For how long a call is repeated that fails by an error, seconds.
            on_pause: Told why nothing is sent, and for how many seconds.
        """
        patient = copy.copy(self)
        patient._patience = _Patience(patience_s, on_pause)
        return patient

    async def call(self, rpc: Rpc[Reply], request: Message) -> Reply:
        """Make a call, and repeat it where that may help, within the deadline, or as `patient` says.

        Raises:
            ClientError: It failed for good.
        """
        began = time.monotonic()
        attempt = 1
        while True:
            timeout_s = self._timeout_s if self._patience else began + self._timeout_s - time.monotonic()
            try:
                return await self._attempt(rpc, request, timeout_s)
            except ClientError as failure:
                delay_s = backoff_s(attempt, failure.retry_delay_s)
                if not rpc.repeatable or not self._bears(failure, attempt, began, delay_s):
                    raise
            await self.transport.sleep(delay_s)
            attempt += 1

    async def pages(self, rpc: Rpc[Reply], request: Any) -> AsyncIterator[Reply]:
        """Give the replies to a request for the first page, and to those for the pages after it.

        Args:
            rpc: Its replies have `next_page_token`.
            request: Its `page_token` is set page by page.
        """
        while True:
            response: Any = await self.call(rpc, request)
            yield response
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def open(self, rpc: Rpc[Reply]) -> Stream[Reply]:
        """Begin a call of many messages; it is not repeated, `gateway.client.stream` does that."""
        self._check()
        metadata, end_span = begin_span(rpc.name, self._metadata)
        return self.transport.open(rpc, metadata=metadata, on_end=end_span)

    async def close(self) -> None:
        """End all calls; later ones fail."""
        self._state.is_closed = True
        await self.transport.close()

    def _bears(self, failure: ClientError, attempt: int, began: float, delay_s: float) -> bool:
        """Whether a call is made again after a delay; one that is patient says that it waits."""
        resumes_at = time.monotonic() + delay_s
        if self._patience is None or not self._state.was_answered:
            return failure.may_pass and attempt < self._max_attempts and resumes_at < began + self._timeout_s
        if not is_passing(failure) or resumes_at >= began + self._patience.patience_s(failure):
            return False
        self._patience.on_pause(failure, delay_s)
        return True

    async def _attempt(self, rpc: Rpc[Reply], request: Message, timeout_s: float) -> Reply:
        self._check()
        metadata, end_span = begin_span(rpc.name, self._metadata)
        if self._on_timing is not None:
            metadata = (*metadata, ASK)
        code = None
        try:
            reply, trailing = await self.transport.call(rpc, request, timeout_s=timeout_s, metadata=metadata)
            code = "OK"
            self._state.was_answered = True
        except grpc.RpcError as error:
            failure = from_rpc_error(error, self.target.endpoint)
            # The channel gives no reasons.
            self._state.was_answered |= bool(failure.reason)
            code = failure.code.name
            raise failure from error
        finally:
            end_span(code)
        if self._on_timing is not None:
            self._on_timing(stage_times_ms(trailing))
        return reply

    def _check(self) -> None:
        """Refuse what gRPC would answer with a hang, or with an error of its own."""
        if self._state.is_closed:
            raise closed()
        if os.getpid() != self._process:
            raise ClientError(
                f"the client was made in process {self._process}, of which this one is a fork; make one in each",
                code=grpc.StatusCode.FAILED_PRECONDITION,
            )
