"""A report's figures beside their limits, in words that a person reads; for the table and the page."""

from dataclasses import dataclass

from export.gate.metrics import share_lost
from export.gate.report import GateReport


@dataclass(frozen=True)
class Check:
    """One thing that a model had to hold."""

    name: str
    measured: str
    limit: str
    holds: bool


def checks_of(report: GateReport) -> list[Check]:
    """Every check, in the order in which it was measured; NaN holds nothing."""
    limit, retrieval = report.tolerance, report.retrieval
    before, after = retrieval.reference, retrieval.exported
    mean = min(shape.cosines.mean for shape in report.shapes)
    norm = max(shape.max_norm_error for shape in report.shapes)
    moved = report.invariance.max_distance
    overlap = retrieval.overlap_at_10
    mrr, ndcg = (
        share_lost(before.mrr_at_10, after.mrr_at_10),
        share_lost(before.ndcg_at_10, after.ndcg_at_10),
    )
    return [
        Check(
            "cosine to fp32 torch, least of any row",
            f"{report.min_cosine:.6f}",
            f"≥ {limit.min_cosine}",
            report.min_cosine >= limit.min_cosine,
        ),
        Check(
            "cosine to fp32 torch, mean at the worst shape",
            f"{mean:.6f}",
            f"≥ {limit.mean_cosine}",
            all(shape.cosines.mean >= limit.mean_cosine for shape in report.shapes),
        ),
        Check(
            "deviation of a norm from 1",
            f"{norm:.1e}",
            f"≤ {limit.max_norm_error:.0e}",
            all(shape.max_norm_error <= limit.max_norm_error for shape in report.shapes),
        ),
        Check(
            f"cosine distance of a row alone and among {report.invariance.rows - 1} others",
            f"{moved:.1e}",
            f"≤ {limit.max_batch_distance:.0e}",
            moved <= limit.max_batch_distance,
        ),
        Check(
            f"top-10 overlap over {retrieval.pairs} queries",
            f"{overlap:.3f}",
            f"≥ {limit.min_overlap}",
            overlap >= limit.min_overlap,
        ),
        Check(
            "MRR@10, reference → exported",
            f"{before.mrr_at_10:.4f} → {after.mrr_at_10:.4f}",
            f"loss ≤ {limit.max_mrr_loss:.1%}",
            mrr <= limit.max_mrr_loss,
        ),
        Check(
            "nDCG@10, reference → exported",
            f"{before.ndcg_at_10:.4f} → {after.ndcg_at_10:.4f}",
            f"loss ≤ {limit.max_ndcg_loss:.1%}",
            ndcg <= limit.max_ndcg_loss,
        ),
    ]
