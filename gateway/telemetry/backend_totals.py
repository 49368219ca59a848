"""What the Tritons did, as counters that only grow, whichever of them answer.

Each Triton counts since it started. Their sum falls when one is away, and jumps when it is back or a new one comes with
what it did for others before: Prometheus would take each for a burst of work.
"""

from collections.abc import Mapping

from gateway.embedding.load import BackendStatistics

_NOTHING = BackendStatistics(0, 0, 0.0, 0.0)


class BackendTotals:
    """Adds up what each Triton has done since it was first asked.

    Attributes:
        by_encoder: By the encoder's name.
    """

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self.by_encoder: dict[str, BackendStatistics] = {}
        self._seen: dict[tuple[str, int], dict[str, BackendStatistics]] = {}

    def observe(self, encoder: str, version: int, answers: Mapping[str, BackendStatistics]) -> None:
        """Count what was done since the last look.

        Args:
            encoder: Its name.
            version: Its version: Triton counts each by itself.
            answers: What each Triton that answered says, by its address.
        """
        before = self._seen.setdefault((encoder, version), {})
        total = self.by_encoder.get(encoder, _NOTHING)
        for url, now in answers.items():
            last = before.get(url, now)
            # One that was started anew counts from zero again.
            total = _sum(total, now if now.row_count < last.row_count else _difference(now, last))
        before |= answers
        self.by_encoder[encoder] = total

    def forget_others(self, urls: set[str], versions: set[tuple[str, int]]) -> None:
        """Forget Tritons and versions that are in use no more: their number has no bound."""
        self._seen = {
            version: {url: seen for url, seen in answers.items() if url in urls}
            for version, answers in self._seen.items()
            if version in versions
        }


def _sum(one: BackendStatistics, other: BackendStatistics) -> BackendStatistics:
    return BackendStatistics(
        one.row_count + other.row_count,
        one.execution_count + other.execution_count,
        one.queue_s + other.queue_s,
        one.compute_s + other.compute_s,
    )


def _difference(now: BackendStatistics, last: BackendStatistics) -> BackendStatistics:
    return BackendStatistics(
        now.row_count - last.row_count,
        max(0, now.execution_count - last.execution_count),
        max(0.0, now.queue_s - last.queue_s),
        max(0.0, now.compute_s - last.compute_s),
    )
