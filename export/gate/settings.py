"""How much the gate measures; apart from the gate, which needs torch."""

from dataclasses import dataclass

from export.errors import ExportError
from export.serving import LENGTH_BUCKETS

LEAST_PAIRS = 20


@dataclass(frozen=True)
class GateSettings:
    """How much is measured.

    Attributes:
        longest_bucket: Longest length bucket that is run, tokens; longer ones are named in the report as skipped.
        pairs: (query, code) pairs of the search, 20 or more.
    """

    longest_bucket: int = 2048
    pairs: int = 200

    def __post_init__(self) -> None:
        if self.longest_bucket < LENGTH_BUCKETS[0]:
            raise ExportError(
                f"the gate's longest bucket must be {LENGTH_BUCKETS[0]} tokens or more, not {self.longest_bucket}"
            )
        if self.pairs < LEAST_PAIRS:
            raise ExportError(f"the gate needs {LEAST_PAIRS} retrieval pairs or more, not {self.pairs}")
