"""How far from its reference an exported model may be, in each precision, and who is out."""

from dataclasses import replace

from export.gate.metrics import share_lost
from export.gate.report import GateReport, Tolerance
from export.serving import Precision

TOLERANCES: dict[Precision, Tolerance] = {
    Precision.FP32: Tolerance(0.99999, 0.99999, 1e-4, 1e-4, 0.99, 0.005, 0.005),
    Precision.FP16: Tolerance(0.999, 0.9995, 1e-4, 1e-4, 0.98, 0.01, 0.01),
    Precision.BF16: Tolerance(0.999, 0.9995, 1e-4, 1e-4, 0.98, 0.01, 0.01),
    Precision.INT8: Tolerance(0.97, 0.99, 1e-3, 1e-4, 0.9, 0.03, 0.03),
}


def tolerance_of(precision: Precision, *, pruned: bool) -> Tolerance:
    """What a model must hold; a pruned one is another model, so that only its search quality is bounded."""
    tolerance = TOLERANCES[precision]
    return replace(tolerance, min_overlap=0.0) if pruned else tolerance


def failures_of(report: GateReport) -> tuple[str, ...]:
    """What of a report is out of tolerance, one line each, in the order in which it was measured.

    Every comparison is written so that NaN fails it.
    """
    limit = report.tolerance
    failures = []
    for shape in report.shapes:
        where = f"at batch {shape.batch}, length {shape.length}"
        if not shape.cosines.least >= limit.min_cosine:
            failures.append(
                f"a vector differs from {report.reference} {where}: cosine {shape.cosines.least:.6f}, "
                f"at least {limit.min_cosine} is needed"
            )
        elif not shape.cosines.mean >= limit.mean_cosine:
            failures.append(
                f"the vectors differ from {report.reference} {where}: mean cosine {shape.cosines.mean:.6f}, "
                f"at least {limit.mean_cosine} is needed"
            )
        if not shape.max_norm_error <= limit.max_norm_error:
            failures.append(
                f"a vector's norm is off by {shape.max_norm_error:.1e} {where}, at most {limit.max_norm_error:.0e} "
                "is allowed"
            )
    invariance = report.invariance
    if not invariance.max_distance <= limit.max_batch_distance:
        failures.append(
            f"a row of {invariance.tokens} tokens moves by {invariance.max_distance:.1e} cosine distance among "
            f"{invariance.rows - 1} others padded to {invariance.length}, at most {limit.max_batch_distance:.0e} "
            "is allowed"
        )
    return (*failures, *_search_failures(report))


def _search_failures(report: GateReport) -> list[str]:
    limit, retrieval = report.tolerance, report.retrieval
    worst = retrieval.worst[0]
    which = (
        f"; worst is {worst.query[:80]!r}, whose code {worst.code} went from rank {worst.reference_rank} to "
        f"{worst.exported_rank}"
    )
    failures = []
    if not retrieval.overlap_at_10 >= limit.min_overlap:
        failures.append(
            f"top-10 overlap with the reference is {retrieval.overlap_at_10:.3f} over {retrieval.pairs} queries, "
            f"at least {limit.min_overlap} is needed{which}"
        )
    for name, allowed in (("mrr_at_10", limit.max_mrr_loss), ("ndcg_at_10", limit.max_ndcg_loss)):
        before, after = getattr(retrieval.reference, name), getattr(retrieval.exported, name)
        if not share_lost(before, after) <= allowed:
            title = {"mrr_at_10": "MRR@10", "ndcg_at_10": "nDCG@10"}[name]
            failures.append(
                f"{title} falls from {before:.4f} to {after:.4f} over {retrieval.pairs} queries, "
                f"a loss of at most {allowed:.1%} is allowed{which}"
            )
    return failures
