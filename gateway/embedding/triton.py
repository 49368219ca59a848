"""The one place that talks to Triton.

Shapes: B rows of a request, T tokens of the longest row, D numbers of an encoder.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from contextvars import Context
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import Any, cast

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from gateway.concurrency import run_all
from gateway.embedding.lane import INTERACTIVE, Callers, Lane, caller_postponed_s
from gateway.embedding.load import BackendStatistics, EncoderLoad
from gateway.embedding.meter import TokenMeter
from gateway.embedding.space import Encoder, InputType
from gateway.embedding.tensors import DIGEST, OUTPUT, infer_request, is_of, output, padded_width, unusable
from gateway.errors import (
    BackendFault,
    BadVector,
    DeadlineExceeded,
    DuovecError,
    Overloaded,
    TritonUnavailable,
)
from gateway.telemetry.stages import Stage, stage
from gateway.wire import client_options

# Rows of similar length, 8 to 16 a request, let Triton merge without much padding.
ROWS_PER_REQUEST = 16
# How much longer than expected a request takes before Triton is woken, by a row of one token.
_PATIENCE = 1.0
_PATIENCE_S = 0.1
# A request is not taken back, whoever stopped waiting for it, before it took this long. Triton before 25.04 can crash
# when one is cancelled just as it is answered (triton-inference-server/server#8034), as it did within 50,000 cancelled
# calls. What Triton does not answer at all ends by this, or with the connection.
_REQUEST_TIMEOUT_S = 30.0
_CLOSE_TIMEOUT_S = 2.0
# When to come back to a queue that is full: not sooner, since others may have filled it; and so while no rate is known.
# At most: the rate of a Triton that hung says nothing of one that goes on.
_LEAST_DELAY_S, _MOST_DELAY_S, _UNKNOWN_DELAY_S = 0.1, 30.0, 1.0
# What Triton says of a process of its Python backend that died, or did not answer for a while.
_STRAYED = ("is not healthy", "Failed to obtain the health mutex")


class Priority(IntEnum):
    """How a request is queued in Triton; the numbers are the levels of the published config.pbtxt."""

    INTERACTIVE = 1
    """Somebody waits for it: it passes every bulk request in the queue."""
    BULK = 2
    """Indexing."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one Triton, or several that share the work, are asked for, and how fast they do it.

    Attributes:
        meter: How fast the encoders work.
        loads: What each encoder was asked for, by its name.
        asked_tokens: Tokens of each encoder that are asked for and were not answered.
    """

    meter: TokenMeter = field(default_factory=TokenMeter)
    loads: defaultdict[str, EncoderLoad] = field(default_factory=lambda: defaultdict(EncoderLoad))
    asked_tokens: Counter[str] = field(default_factory=Counter)


class _Lanes:
    """The lanes of one encoder."""

    def __init__(self, infer: Callable[..., Awaitable[NDArray[np.float32]]]) -> None:
        self.callers = Callers()
        self._interactive = Lane(
            partial(infer, priority=Priority.INTERACTIVE), lambda: INTERACTIVE, postponed_s=caller_postponed_s
        )
        self._bulk = Lane(partial(infer, priority=Priority.BULK), lambda: self.callers.bulk_quantum)

    def of(self, priority: Priority) -> Lane:
        return self._interactive if priority is Priority.INTERACTIVE else self._bulk


class TritonClient:
    """Runs encoders on a Triton server, with a bounded number of requests in flight to each.

    Each priority has its own bound: a query never waits for the slots of an index run.

    Attributes:
        meter: How fast the encoders work.
        loads: What each encoder was asked for, by its name.
        lost_count: How often the connection was lost. What was seen of the server before says nothing of it after.
    """

    def __init__(
        self, url: str, *, concurrency: int, work: Work | None = None, request_timeout_s: float = _REQUEST_TIMEOUT_S
    ) -> None:
        """Prepare a channel; nothing is sent yet.

        Args:
            url: `host:port` of Triton's gRPC endpoint.
            concurrency: Requests of one priority to one encoder in flight at once.
            work: Where it is counted together with other Tritons' work; None for its own alone.
            request_timeout_s: How long a request has at least, in seconds, also when nobody waits for it any more.
        """
        self._url = url
        work = work or Work()
        self.meter, self.loads, self._asked_tokens = work.meter, work.loads, work.asked_tokens
        self._channel = grpc.aio.insecure_channel(url, options=client_options())
        self._triton = GRPCInferenceServiceStub(self._channel)
        self._concurrency = concurrency
        self._slots: dict[tuple[str, Priority], asyncio.Semaphore] = {}
        self._lanes: dict[str, _Lanes] = {}
        self.lost_count = 0
        # By encoder and version, the connection's number on which Triton gave up on a process that may live on.
        self._strayed: dict[tuple[str, int], int] = {}
        self._watching: asyncio.Task[None] | None = None
        self._request_timeout_s = request_timeout_s
        self._requests: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        """Close the channel, once what was asked for is answered, or a moment is over."""
        if self._requests:
            await asyncio.wait(self._requests, timeout=_CLOSE_TIMEOUT_S)
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._channel.close()

    async def _watch_connection(self) -> None:
        state = self._channel.get_state()
        while True:
            await self._channel.wait_for_state_change(state)
            self.lost_count += state is grpc.ChannelConnectivity.READY
            state = self._channel.get_state()

    async def check_ready(self, encoder: Encoder, *, timeout_s: float) -> None:
        """Check that Triton serves this version of an encoder.

        Raises:
            TritonUnavailable: It does not, or it cannot be reached.
        """
        request = service_pb2.ModelReadyRequest(name=encoder.name, version=str(encoder.version))
        answer = await self._ask(self._triton.ModelReady, request, encoder, timeout_s)
        if not answer.ready:
            raise TritonUnavailable(f"Triton at {self._url} does not serve {encoder.name} version {encoder.version}")

    async def statistics(self, encoder: Encoder, *, timeout_s: float) -> BackendStatistics:
        """Ask Triton what it did with an encoder.

        Raises:
            TritonUnavailable: It cannot be reached, or does not serve the encoder.
        """
        request = service_pb2.ModelStatisticsRequest(name=encoder.name, version=str(encoder.version))
        answer = await self._ask(self._triton.ModelStatistics, request, encoder, timeout_s)
        (model,) = answer.model_stats
        spent = model.inference_stats
        return BackendStatistics(
            model.inference_count, model.execution_count, spent.queue.ns / 1e9, spent.compute_infer.ns / 1e9
        )

    async def encode(
        self,
        encoder: Encoder,
        rows: Sequence[NDArray[np.int64]],
        input_type: InputType,
        *,
        priority: Priority,
        timeout_s: float,
    ) -> tuple[NDArray[np.float32], dict[int, BadVector]]:
        """Run an encoder over rows of tokens.

        Args:
            encoder: The version that is asked for, and no other.
            rows: Token ids of each text.
            input_type: Chooses the task adapter, where the encoder has any.
            priority: Its place in Triton's queue.
            timeout_s: Budget for the whole call, seconds.

        Returns:
            vectors_BD (B, D) float32 of norm 1 ± 1e-2, in order; and by index the rows whose vector is unusable
            (their row in vectors_BD is undefined).

        Raises:
            TritonUnavailable: Triton is down or does not serve the version.
            Overloaded: Its queue is full.
            DeadlineExceeded: The budget is spent.
            BackendFault: It answered something else than vectors of this encoder.
        """
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch_connection())
        lanes = self._lanes.get(encoder.name)
        if lanes is None:
            lanes = self._lanes[encoder.name] = _Lanes(self._infer_awake)
        callers = lanes.callers.waiting() if priority is Priority.INTERACTIVE else nullcontext()
        try:
            async with asyncio.timeout(timeout_s):
                with callers:
                    if encoder.token_budget > 0:
                        vectors_BD = await lanes.of(priority).encode(encoder, rows, input_type, timeout_s)
                    else:
                        vectors_BD = await self._encode_now(encoder, rows, input_type, timeout_s, priority)
        except TimeoutError as exc:
            raise DeadlineExceeded(f"encoder {encoder.name} did not answer in {timeout_s:.3g} s") from exc
        self._refuse_strayed(encoder)
        return vectors_BD, unusable(vectors_BD, encoder)

    def _refuse_strayed(self, encoder: Encoder) -> None:
        """Take no answer that may be another request's, where answers do not say of which rows they are.

        Triton gives up on a process of its Python backend that was stopped for a while. Where that one goes on, its
        answer is taken for the one to the next batch: vectors of other texts. A Triton that was started anew is sure.
        """
        if self._strayed.get((encoder.name, encoder.version), -1) == self.lost_count:
            raise self._strayed_error(encoder)

    def _strayed_error(self, encoder: Encoder) -> TritonUnavailable:
        return TritonUnavailable(
            f"a process of Triton's at {self._url} that runs encoder {encoder.name} version {encoder.version} had "
            "stopped, and what it answers since may be the vectors of other texts; restart Triton"
        )

    async def _encode_now(
        self,
        encoder: Encoder,
        rows: Sequence[NDArray[np.int64]],
        input_type: InputType,
        timeout_s: float,
        priority: Priority,
    ) -> NDArray[np.float32]:
        """Ask for all rows at once, in requests of rows of similar length: who has no micro-batches merges them."""
        vectors_BD = np.empty((len(rows), encoder.dimension), dtype=np.float32)
        slots = self._slots.setdefault((encoder.name, priority), asyncio.Semaphore(self._concurrency))
        max_rows = min(ROWS_PER_REQUEST, encoder.max_batch_size)
        by_length = sorted(range(len(rows)), key=lambda index: len(rows[index]))

        async def run(indices: list[int]) -> None:
            with stage(Stage.QUEUE, "wait for a slot"):
                await slots.acquire()
            chosen = [rows[index] for index in indices]
            request = asyncio.create_task(self._infer_awake(encoder, chosen, input_type, timeout_s, priority))
            request.add_done_callback(lambda _: slots.release())
            request.add_done_callback(_retrieve)
            vectors_BD[indices] = await asyncio.shield(request)

        await run_all(run(by_length[start : start + max_rows]) for start in range(0, len(rows), max_rows))
        return vectors_BD

    async def _infer_awake(
        self,
        encoder: Encoder,
        rows: list[NDArray[np.int64]],
        input_type: InputType,
        timeout_s: float,
        priority: Priority,
    ) -> NDArray[np.float32]:
        """As `_infer`, in a task of its own; Triton is woken when it seems to sleep over the request.

        One request in some hundreds lies in Triton's queue for half a second while nothing runs: its batcher has missed
        that the request came, and looks again after 500 ms, or when another comes. See DECISIONS.md.
        """
        tokens = sum(map(len, rows))
        self._asked_tokens[encoder.name] += tokens
        request = cast("asyncio.Task[Any]", asyncio.current_task())
        self._requests.add(request)
        wake = partial(self._wake, encoder, input_type, timeout_s)
        waking = asyncio.get_running_loop().call_later(self._patience_s(encoder), wake)
        try:
            with self.meter.working(tokens):
                return await self._infer(encoder, rows, input_type, priority, timeout_s, self.loads[encoder.name])
        finally:
            waking.cancel()
            self._requests.discard(request)
            self._asked_tokens[encoder.name] -= tokens

    def _wake(self, encoder: Encoder, input_type: InputType, timeout_s: float) -> None:
        """Ask for a single token. It is on nobody's account, and what becomes of it is of no interest."""
        one_token = [np.zeros(1, dtype=np.int64)]
        infer = self._infer(encoder, one_token, input_type, Priority.INTERACTIVE, timeout_s, EncoderLoad())
        # The timer has the context of the call that it was set for, whose stages and trace this is no part of.
        request = asyncio.create_task(infer, context=Context())
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)
        request.add_done_callback(_retrieve)

    def _patience_s(self, encoder: Encoder) -> float:
        """How long requests may take that were made by now."""
        return _PATIENCE_S + _PATIENCE * (self._expected_s(encoder) or 0.0)

    def _expected_s(self, encoder: Encoder) -> float | None:
        """What was asked for takes so long; of the rate of both encoders one has half. None before the first answer."""
        rate = self.meter.tokens_per_s
        return None if rate is None else self._asked_tokens[encoder.name] / (rate / 2)

    async def _infer(
        self,
        encoder: Encoder,
        rows: list[NDArray[np.int64]],
        input_type: InputType,
        priority: Priority,
        timeout_s: float,
        load: EncoderLoad,
    ) -> NDArray[np.float32]:
        token_count = sum(map(len, rows))
        width = padded_width(max(map(len, rows)), encoder.length_buckets)
        request = infer_request(encoder, rows, width, input_type, priority=priority)
        lost_count = self.lost_count
        try:
            with (
                load.asking(len(rows), token_count, width),
                stage(
                    Stage.INFER,
                    f"triton {encoder.name}",
                    server__address=self._url,
                    duovec__version=encoder.version,
                    duovec__row_count=len(rows),
                    duovec__token_count=token_count,
                    duovec__width=width,
                ) as running,
            ):
                time_s = max(timeout_s, self._request_timeout_s)
                answer = await self._ask(self._triton.ModelInfer, request, encoder, time_s, running.headers)
        except TritonUnavailable as exc:
            if _has_strayed(str(exc)) and not encoder.names_rows:
                self._strayed[encoder.name, encoder.version] = lost_count
            raise
        try:
            vectors_BD: NDArray[np.float32] | None = output(answer, OUTPUT)
            digest_B1 = output(answer, DIGEST) if encoder.names_rows else None
        except ValueError as exc:
            raise BadVector(
                f"encoder {encoder.name} version {encoder.version} answered bytes that are not its shape: {exc}"
            ) from exc
        task_id = encoder.task_ids.get(input_type, 0)
        if encoder.names_rows and not is_of(rows, task_id, digest_B1):
            # So may the next one be; or not, where another process gives it, or Triton was started anew.
            raise self._strayed_error(encoder)
        shape = (len(rows), encoder.dimension)
        if vectors_BD is None or vectors_BD.dtype != np.float32 or vectors_BD.shape != shape:
            found = "nothing" if vectors_BD is None else f"{vectors_BD.dtype} {vectors_BD.shape}"
            raise BadVector(f"encoder {encoder.name} version {encoder.version} answered {found} for float32 {shape}")
        return vectors_BD

    async def _ask(
        self, call: Any, request: Any, encoder: Encoder, timeout_s: float, headers: dict[str, str] | None = None
    ) -> Any:
        """Make one call.

        Raises:
            DuovecError: As the public methods, for whatever gRPC raises.
        """
        try:
            answer = await call(request, timeout=timeout_s, metadata=tuple((headers or {}).items()))
        except grpc.aio.AioRpcError as exc:
            raise self._translated(exc, encoder) from exc
        except grpc.aio.UsageError as exc:
            raise TritonUnavailable(f"the channel to Triton at {self._url} is closed") from exc
        if answer is None:  # what gRPC makes of bytes that do not parse
            raise BackendFault(f"Triton at {self._url} answered no message of its protocol")
        return answer

    def _translated(self, exc: grpc.aio.AioRpcError, encoder: Encoder) -> DuovecError:
        code, text = exc.code(), exc.details() or ""
        who = f"encoder {encoder.name} version {encoder.version} at {self._url}"
        if code is grpc.StatusCode.UNAVAILABLE and "maximum queue size" in text:
            # Triton says UNAVAILABLE to a full queue; it is up, and has enough to do.
            expected_s = self._expected_s(encoder)
            delay_s = _UNKNOWN_DELAY_S if expected_s is None else min(max(expected_s, _LEAST_DELAY_S), _MOST_DELAY_S)
            return Overloaded(f"the queue of {who} is full", retry_after_s=delay_s)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(f"{who} did not answer in time")
        if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.CANCELLED} or (
            _has_strayed(text) or "unknown model" in text or "not ready" in text
        ):
            return TritonUnavailable(f"{who}: {text}")
        return BackendFault(f"{who}: {code} {text}")


def _retrieve(done: asyncio.Task[Any]) -> None:
    """Look at the failure of a request that nobody may wait for any more, or asyncio would log it."""
    if not done.cancelled():
        done.exception()


def _has_strayed(text: str) -> bool:
    return any(words in text for words in _STRAYED)
