"""What a model has to hold: its figures beside their limits, in words that a person reads, and a line for each fault.

Every comparison is written so that NaN fails it.
"""

from dataclasses import dataclass

from export.gate.metrics import share_lost
from export.gate.report import GateReport, ShapeResult


@dataclass(frozen=True)
class Check:
    """One thing that a model had to hold; `faults` says of each shape or figure that is out what is, and where."""

    name: str
    measured: str
    limit: str
    faults: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing is out."""
        return not self.faults


def checks_of(report: GateReport) -> list[Check]:
    """Every check: of the vectors at every shape, of a row among others, of what is found."""
    return [*_shape_checks(report), _invariance_check(report), *_search_checks(report)]


def failures_of(report: GateReport) -> tuple[str, ...]:
    """What of a report is out of tolerance, one line each, in the order of the checks."""
    return tuple(fault for check in checks_of(report) for fault in check.faults)


def _shape_checks(report: GateReport) -> list[Check]:
    limit = report.tolerance
    mean = min(shape.cosines.mean for shape in report.shapes)
    norm = max(shape.max_norm_error for shape in report.shapes)
    return [
        Check(
            "cosine to fp32 torch, least of any row",
            f"{report.min_cosine:.6f}",
            f"≥ {limit.min_cosine}",
            tuple(
                f"a vector differs from {report.reference} {_where(shape)}: cosine {shape.cosines.least:.6f}, "
                f"at least {limit.min_cosine} is needed"
                for shape in report.shapes
                if not shape.cosines.least >= limit.min_cosine
            ),
        ),
        Check(
            "cosine to fp32 torch, mean at the worst shape",
            f"{mean:.6f}",
            f"≥ {limit.mean_cosine}",
            tuple(
                f"the vectors differ from {report.reference} {_where(shape)}: mean cosine {shape.cosines.mean:.6f}, "
                f"at least {limit.mean_cosine} is needed"
                for shape in report.shapes
                if not shape.cosines.mean >= limit.mean_cosine
            ),
        ),
        Check(
            "deviation of a norm from 1",
            f"{norm:.1e}",
            f"≤ {limit.max_norm_error:.0e}",
            tuple(
                f"a vector's norm is off by {shape.max_norm_error:.1e} {_where(shape)}, at most "
                f"{limit.max_norm_error:.0e} is allowed"
                for shape in report.shapes
                if not shape.max_norm_error <= limit.max_norm_error
            ),
        ),
    ]


def _where(shape: ShapeResult) -> str:
    return f"at batch {shape.batch}, length {shape.length}"


def _invariance_check(report: GateReport) -> Check:
    found, most = report.invariance, report.tolerance.max_batch_distance
    fault = (
        f"a row of {found.tokens} tokens moves by {found.max_distance:.1e} cosine distance among {found.rows - 1} "
        f"others padded to {found.length}, at most {most:.0e} is allowed"
    )
    return Check(
        f"cosine distance of a row alone and among {found.rows - 1} others",
        f"{found.max_distance:.1e}",
        f"≤ {most:.0e}",
        () if found.max_distance <= most else (fault,),
    )


def _search_checks(report: GateReport) -> list[Check]:
    limit, retrieval = report.tolerance, report.retrieval
    worst = retrieval.worst[0]
    which = (
        f"; worst is {worst.query[:80]!r}, whose code {worst.code} went from rank {worst.reference_rank} to "
        f"{worst.exported_rank}"
    )
    overlap = (
        f"top-10 overlap with the reference is {retrieval.overlap_at_10:.3f} over {retrieval.pairs} queries, at least "
        f"{limit.min_overlap} is needed{which}"
    )
    checks = [
        Check(
            f"top-10 overlap over {retrieval.pairs} queries",
            f"{retrieval.overlap_at_10:.3f}",
            f"≥ {limit.min_overlap}",
            () if retrieval.overlap_at_10 >= limit.min_overlap else (overlap,),
        )
    ]
    for title, name, most in (
        ("MRR@10", "mrr_at_10", limit.max_mrr_loss),
        ("nDCG@10", "ndcg_at_10", limit.max_ndcg_loss),
    ):
        before, after = getattr(retrieval.reference, name), getattr(retrieval.exported, name)
        fault = (
            f"{title} falls from {before:.4f} to {after:.4f} over {retrieval.pairs} queries, a loss of at most "
            f"{most:.1%} is allowed{which}"
        )
        checks.append(
            Check(
                f"{title}, reference → exported",
                f"{before:.4f} → {after:.4f}",
                f"loss ≤ {most:.1%}",
                () if share_lost(before, after) <= most else (fault,),
            )
        )
    return checks
