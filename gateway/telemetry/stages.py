"""How long a request spends in each stage, recorded where the stage runs.

The door begins a `Recorder`; whatever runs for the request, in its task or in tasks that it starts, finds it in a
context variable and says by `stage` what it does. Work that is nobody's request, such as the canary, records nothing.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self


class Stage(StrEnum):
    """What a request is about at a moment; several of them at once where it does several things."""

    TOKENIZE = "tokenize"
    """Texts to token ids, and the wait for a thread for it."""
    QUEUE = "queue"
    """Waiting for its turn: in the line of the streams, for a slot of an encoder, for a connection of the pool."""
    INFER = "infer"
    """Requests to Triton, from sending to the answer; Triton's own queue is part of it."""
    DATABASE = "database"
    """Transactions, from having a connection to giving it back."""


class Span(Protocol):
    """A piece of work in a trace."""

    @property
    def trace_id(self) -> str:
        """32 hex digits."""

    @property
    def headers(self) -> dict[str, str]:
        """What a service that is called for this work is sent: W3C Trace Context."""

    def begin(self, name: str, attributes: Mapping[str, str | int], *, began_s_ago: float = 0.0) -> "Span":
        """Begin a part of this work."""

    def end(self, error: BaseException | None = None) -> None:
        """The work is done, or failed."""

    def end_call(self, code: str) -> None:
        """The call that this is the span of has ended, with the gRPC code of this name."""


class Recorder:
    """The stages of one request, or of one batch of a stream.

    Attributes:
        request_id: Names the request in logs and in the reply of a failure.
        span: Its span; None where it is not traced.
        is_told: Whether the reply is to end with the times.
        on_batch: Told of each batch of a stream when it is over.
        reason: `ErrorInfo.reason` of its failure; empty where it has none.
    """

    __slots__ = (
        "_began_at", "_entered_at", "_running", "_seconds", "is_told", "on_batch", "reason", "request_id", "span",
    )  # fmt: skip

    def __init__(
        self,
        request_id: str,
        span: Span | None = None,
        *,
        is_told: bool = False,
        on_batch: "Callable[[Recorder], None] | None" = None,
    ) -> None:
        """Begin now."""
        self.request_id = request_id
        self.span = span
        self.is_told = is_told
        self.on_batch = on_batch
        self.reason = ""
        self._began_at = time.perf_counter()
        self._seconds: dict[Stage, float] = {}
        self._running: dict[Stage, int] = {}
        self._entered_at: dict[Stage, float] = {}

    @property
    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._began_at

    @property
    def seconds(self) -> dict[Stage, float]:
        """Time in each stage that has ended. What runs at once in a stage, such as both encoders, counts once."""
        return dict(self._seconds)

    def server_timing(self) -> str:
        """The stages in the form of HTTP's Server-Timing, milliseconds: `tokenize;dur=0.41, …, total;dur=5.20`."""
        parts = [f"{stage};dur={self._seconds.get(stage, 0.0) * 1e3:.2f}" for stage in Stage]
        return ", ".join([*parts, f"total;dur={self.elapsed_s * 1e3:.2f}"])

    def enter(self, stage: Stage) -> float:
        """Something of this stage begins; gives the time of `time.perf_counter`."""
        now = time.perf_counter()
        running = self._running.get(stage, 0)
        if not running:
            self._entered_at[stage] = now
        self._running[stage] = running + 1
        return now

    def leave(self, stage: Stage) -> float:
        """And ends; gives the time, too."""
        now = time.perf_counter()
        self._running[stage] -= 1
        if not self._running[stage]:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + now - self._entered_at[stage]
        return now

    def add(self, other: "Recorder") -> None:
        """Add the times of a batch to those of its stream."""
        for stage, seconds in other._seconds.items():
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds


_current: ContextVar[Recorder | None] = ContextVar("duovec_recorder", default=None)
# A wait that is shorter is no span: most are none at all.
_LEAST_QUEUE_SPAN_S = 0.001


def current() -> Recorder | None:
    """That of the running request or batch; None where nobody's request runs."""
    return _current.get()


def record(recorder: Recorder | None) -> None:
    """Record from now on in this task, and in the tasks that it starts; None for what is on nobody's account.

    Each RPC, and each batch of a stream, runs in a task of its own, so that there is nothing to take back.
    """
    _current.set(recorder)


def trailing_timing() -> tuple[tuple[str, str], ...]:
    """Metadata that the reply ends with: the times of the stages, for a caller that asked for them."""
    recorder = _current.get()
    return () if recorder is None or not recorder.is_told else (("server-timing", recorder.server_timing()),)


@contextmanager
def batch(item_count: int) -> Iterator[None]:
    """Answer one batch of a stream in the block, in a task of its own: it has its own times, and a span."""
    stream = _current.get()
    if stream is None:
        yield
        return
    span = None if stream.span is None else stream.span.begin("batch", {"duovec.item_count": item_count})
    recorder = Recorder(stream.request_id, span)
    error: BaseException | None = None
    try:
        record(recorder)
        yield
    except BaseException as exc:
        error = exc
        raise
    finally:
        if span is not None:
            span.end(error)
        stream.add(recorder)
        if stream.on_batch is not None:
            stream.on_batch(recorder)


class stage:  # noqa: N801 - used as a statement
    """`with stage(Stage.INFER, "compact-code", rows=16) as running:` times the block, and makes it a span."""

    __slots__ = ("_attributes", "_began_at", "_name", "_recorder", "_stage", "span")

    def __init__(self, stage: Stage, name: str = "", **attributes: str | int) -> None:
        """Args: name: Of the span. attributes: Of the span; `__` stands for a dot."""
        self._stage = stage
        self._name = name or str(stage)
        self._attributes = attributes
        self._recorder: Recorder | None = None
        self._began_at = 0.0
        self.span: Span | None = None

    @property
    def headers(self) -> dict[str, str] | None:
        """What a service that is called in the block is sent; None for nothing."""
        return None if self.span is None else self.span.headers

    def __enter__(self) -> Self:
        """Begin."""
        recorder = self._recorder = _current.get()
        if recorder is not None:
            self._began_at = recorder.enter(self._stage)
            if recorder.span is not None and self._stage is not Stage.QUEUE:
                self.span = recorder.span.begin(self._name, self._dotted())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        recorder = self._recorder
        if recorder is None:
            return
        waited_s = recorder.leave(self._stage) - self._began_at
        if self.span is not None:
            self.span.end(error)
        elif recorder.span is not None and waited_s >= _LEAST_QUEUE_SPAN_S:
            recorder.span.begin(self._name, self._dotted(), began_s_ago=waited_s).end(error)

    def _dotted(self) -> dict[str, str | int]:
        return {name.replace("__", "."): value for name, value in self._attributes.items()}
