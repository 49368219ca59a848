"""What Triton is asked for, counted by encoder: for those who watch the service."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from gateway.telemetry.histogram import Histogram

_ROW_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(slots=True)
class EncoderLoad:
    """Of one encoder.

    Attributes:
        failed_count: Requests that Triton did not answer with vectors; also those that were given up.
        rows: Texts of each request.
        token_count: Tokens of the texts.
        padding_count: Tokens that were added so that the rows of a request are equally long. Triton's backend merges
            and cuts the rows anew, and pads them its own way.
    """

    failed_count: int = 0
    rows: Histogram = field(default_factory=lambda: Histogram(_ROW_BOUNDS))
    token_count: int = 0
    padding_count: int = 0

    @contextmanager
    def asking(self, row_count: int, token_count: int, width: int) -> Iterator[None]:
        """Ask for rows in the block, padded to `width` tokens each."""
        self.rows.observe(row_count)
        self.token_count += token_count
        self.padding_count += row_count * width - token_count
        try:
            yield
        except BaseException:
            self.failed_count += 1
            raise


@dataclass(frozen=True, slots=True)
class BackendStatistics:
    """What Triton says of an encoder since it loaded it, whoever asked.

    Attributes:
        row_count: Rows that it has answered.
        execution_count: Times that it ran the model for them: the rows of a time are the batch that it made.
        queue_s: Time that its requests waited in its queue, seconds, added up.
        compute_s: Time that they were computed, added up.
    """

    row_count: int
    execution_count: int
    queue_s: float
    compute_s: float
