"""What was asked since the start, by method: counts, codes, durations, stages."""

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway.telemetry.histogram import LATENCY_BOUNDS_S, STAGE_BOUNDS_S, Histogram
from gateway.telemetry.stages import Recorder


def _latency() -> Histogram:
    return Histogram(LATENCY_BOUNDS_S)


def _stage() -> Histogram:
    return Histogram(STAGE_BOUNDS_S)


@dataclass(slots=True)
class MethodStatistics:
    """Of one RPC.

    Attributes:
        code_counts: Calls that have ended, by the name of their gRPC code; where the caller gave up, by its own
            deadline or otherwise, CANCELLED.
        item_code_counts: Replies of a stream to single items, by code.
        durations: Of calls, seconds; of streams from the first to the last item.
        batch_durations: Of batches of a stream, seconds.
        stages: Seconds that a call spent in a stage, or a batch where the call is a stream.
        running_count: Calls that have not ended.
    """

    code_counts: Counter[str] = field(default_factory=Counter)
    item_code_counts: Counter[str] = field(default_factory=Counter)
    durations: Histogram = field(default_factory=_latency)
    batch_durations: Histogram = field(default_factory=_latency)
    stages: defaultdict[str, Histogram] = field(default_factory=lambda: defaultdict(_stage))
    running_count: int = 0

    def observe_call(self, code: str, recorder: Recorder, *, is_stream: bool) -> None:
        """A call has ended."""
        self.code_counts[code] += 1
        self.durations.observe(recorder.elapsed_s)
        if not is_stream:
            self._observe_stages(recorder)

    def observe_batch(self, recorder: Recorder) -> None:
        """A batch of a stream has ended."""
        self.batch_durations.observe(recorder.elapsed_s)
        self._observe_stages(recorder)

    def _observe_stages(self, recorder: Recorder) -> None:
        for stage, seconds in recorder.seconds.items():
            self.stages[stage].observe(seconds)


class RequestStatistics:
    """Of all RPCs of this process. The methods are those that the server has: there are no more than these.

    Attributes:
        start_time: When counting began.
        methods: By name, such as `SearchService/Search`.
    """

    def __init__(self) -> None:
        """Begin to count."""
        self.start_time = datetime.now(UTC)
        self._began_at = time.monotonic()
        self.methods: dict[str, MethodStatistics] = {}

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began_at

    def of(self, method: str) -> MethodStatistics:
        """Those of one method."""
        if method not in self.methods:
            self.methods[method] = MethodStatistics()
        return self.methods[method]
