"""What the gate saw: stored in manifest.json, shown as a table and as a page."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from export.gate.metrics import Cosines

RANK_BANDS = ("1", "2–3", "4–10", "over 10")


@dataclass(frozen=True)
class ShapeResult:
    """Agreement with fp32 torch at one shape.

    Attributes:
        batch: Rows.
        length: Tokens that they were padded to.
        cosines: To the reference.
        max_abs_difference: Of any number of any vector.
        max_norm_error: Largest deviation of a vector's norm from 1.
    """

    batch: int
    length: int
    cosines: Cosines
    max_abs_difference: float
    max_norm_error: float


@dataclass(frozen=True)
class InvarianceResult:
    """How far a vector moves when its row is padded among others.

    Attributes:
        rows: Rows of the batch.
        length: Tokens that they were padded to.
        max_distance: Largest cosine distance between a row alone and the same row in the batch.
        tokens: Length of the row that moved that far.
    """

    rows: int
    length: int
    max_distance: float
    tokens: int


@dataclass(frozen=True)
class Quality:
    """How well a model finds the one right code of every query; `rank_counts` counts queries by `RANK_BANDS`."""

    mrr_at_10: float
    ndcg_at_10: float
    rank_counts: tuple[int, ...]


@dataclass(frozen=True)
class QueryResult:
    """One query: the rank of its code before and after, and the share of the ten best codes in common."""

    query: str
    code: str
    reference_rank: int
    exported_rank: int
    overlap: float


@dataclass(frozen=True)
class RetrievalResult:
    """Search with the exported model and with the unpruned, unquantized reference.

    Attributes:
        pairs: Queries, and codes among which each is searched.
        overlap_at_10: Mean share of the ten best codes in common.
        reference: Quality of the reference.
        exported: Quality of the exported model.
        queries: Cosines between the query vectors of both.
        passages: Cosines between the code vectors of both.
        worst: The ten queries that changed most, worst first.
    """

    pairs: int
    overlap_at_10: float
    reference: Quality
    exported: Quality
    queries: Cosines
    passages: Cosines
    worst: tuple[QueryResult, ...]


@dataclass(frozen=True)
class Tolerance:
    """How far an exported model may be from its reference.

    Attributes:
        min_cosine: Least cosine of any row to fp32 torch.
        mean_cosine: Least mean cosine at any shape.
        max_batch_distance: Most cosine distance between a row alone and among others.
        max_norm_error: Most deviation of a vector's norm from 1.
        min_overlap: Least mean top-10 overlap.
        max_mrr_loss: Most loss of MRR@10, as a share of the reference's.
        max_ndcg_loss: Most loss of nDCG@10, as a share of the reference's.
    """

    min_cosine: float
    mean_cosine: float
    max_batch_distance: float
    max_norm_error: float
    min_overlap: float
    max_mrr_loss: float
    max_ndcg_loss: float


@dataclass(frozen=True)
class GateReport:
    """Everything that the gate measured of one exported encoder, and its verdict.

    Attributes:
        encoder: Its name.
        runtime: What ran it.
        precision: In which precision.
        pruned: Whether it is smaller than its checkpoint.
        reference: What it was compared with.
        tolerance: What it had to hold.
        buckets: Length buckets that were run, tokens.
        skipped_buckets: Length buckets that the encoder reads and the setting left out.
        compared_texts: Texts whose token ids were compared one by one with transformers' tokenizer.
        shapes: Agreement at every shape.
        invariance: Alone against among others.
        retrieval: Search quality.
        seconds: Wall time.
        failures: What was out of tolerance, one line each; empty when it passed.
        canary: One real row and its vector from the served runtime, for canary.json; not part of the manifest's report.
    """

    encoder: str
    runtime: str
    precision: str
    pruned: bool
    reference: str
    tolerance: Tolerance
    buckets: tuple[int, ...]
    skipped_buckets: tuple[int, ...]
    compared_texts: int
    shapes: tuple[ShapeResult, ...]
    invariance: InvarianceResult
    retrieval: RetrievalResult
    seconds: float
    failures: tuple[str, ...] = ()
    canary: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether nothing was out of tolerance."""
        return not self.failures

    @property
    def min_cosine(self) -> float:
        """Least cosine of any row at any shape; NaN when any is."""
        return _least([shape.cosines.least for shape in self.shapes])

    @property
    def max_abs_difference(self) -> float:
        """Largest difference of any number at any shape; NaN when any is."""
        return -_least([-shape.max_abs_difference for shape in self.shapes])

    def as_dict(self) -> dict[str, Any]:
        """For manifest.json: plain values, None for what is not a number."""
        table = asdict(self)
        del table["canary"]
        summary = {"passed": self.passed, "min_cosine": self.min_cosine, "max_abs_difference": self.max_abs_difference}
        plain: dict[str, Any] = _plain({**summary, **table})
        return plain

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "GateReport":
        """Read what `as_dict` gave.

        Raises:
            KeyError, TypeError: It is no such report.
        """
        report: GateReport = _read(cls, table)
        return report


def _least(values: list[float]) -> float:
    return math.nan if any(math.isnan(value) for value in values) else min(values)


def _plain(value: Any) -> Any:
    """JSON has no NaN; no figure needs more than eight digits."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    return value


def _read(kind: Any, value: Any) -> Any:
    """The reverse of `_plain`, by the types of the fields; a field with a default may be absent."""
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        wanted = [one.name for one in fields(kind) if one.name in value or one.default_factory is MISSING]
        return kind(**{name: _read(hints[name], value[name]) for name in wanted})
    if get_origin(kind) is tuple:
        return tuple(_read(get_args(kind)[0], item) for item in value)
    if kind is float:
        return math.nan if value is None else float(value)
    return value
