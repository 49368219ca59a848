"""What is to be published, and the gate's refusal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export.gate.settings import GateSettings
from training.errors import TrainingError
from training.evaluation.opponent import Opponent
from training.publication.gate import NOT_BETTER, GateLimits
from training.publication.measure import Candidate


class NotBetter(TrainingError):
    """The gate refuses; `verdict` is what was measured."""

    def __init__(self, verdict: Mapping[str, Any]) -> None:
        super().__init__(f"{NOT_BETTER}: {'; '.join(verdict['faults'])}; nothing was published")
        self.verdict = verdict


@dataclass(frozen=True)
class PublishRequest:
    """What to publish where.

    Attributes:
        candidates: By role, `code` or `text` or both.
        data: Folder of the mined data set whose test split decides.
        repository: The model repository that Triton serves.
        limits: What the candidates must reach.
        limit: Queries to ask.
        seed: Draws them.
        unseen_data: The caller knows that the checkpoints were not trained on the test split.
        baseline: What is compared with instead of the live space; None for the live space.
        bases: By role, the checkpoint that a candidate was trained from; the source of its spec where there is none.
        export_gate: How much the export's gate measures.
        rate: Chunks a second that are embedded again at most; 0 for as many as go.
        wait_s: How long to wait for the new space's vectors, seconds.
    """

    candidates: Mapping[str, Candidate]
    data: Path
    repository: Path
    limits: GateLimits = field(default_factory=GateLimits)
    limit: int = 1000
    seed: int = 0
    unseen_data: bool = False
    baseline: Opponent | None = None
    bases: Mapping[str, Path] = field(default_factory=dict)
    export_gate: GateSettings = field(default_factory=GateSettings)
    rate: float = 0.0
    wait_s: float = 24 * 3600.0
