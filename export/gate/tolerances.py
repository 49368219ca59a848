"""How far from its reference an exported model may be, in each precision."""

from dataclasses import replace

from export.gate.report import Tolerance
from export.serving import Precision

# Measured on both encoders of the compact pair over 200 queries, on a CPU:
#
#                                     least cosine  worst mean  row among others  overlap  nDCG@10
#   fp32, onnxruntime and OpenVINO    0.9999999     1.0000      1e-12             1.000     0.0 %
#   fp16, onnxruntime                 0.9999999     1.0000      5e-14             1.000     0.0 %
#   bf16, OpenVINO                    0.99989       0.99996     2.7e-05           0.995     0.0 %
#   int8 by NNCF, OpenVINO            0.983         0.993       2e-16             0.946    −0.2 %
#   the same, the rest in bf16        0.984         0.993       3.4e-05           0.951    +0.0 %
#   int8 by NNCF, onnxruntime         0.983         0.993       2e-16             0.949    −0.2 %
#   refused: the same, calibrated on functions alone
#                                     0.935         0.979       3.4e-04           0.927    −1.2 %
#   refused: onnxruntime's dynamic int8, per channel
#                                     0.970         0.989       3.6e-02           0.912    +0.1 %
#   refused: the same per tensor      0.893         0.913       2.6e-02           0.821    −0.5 %
#
# Dynamic int8 scales activations by the whole batch: a vector depends on its batch mates. The one that was calibrated
# on functions alone ran at widths that no host runs, as the gate then did. What a row may move among others is what its
# canary may, which whoever serves asks for among others, too.
# Pruned (compact-code, fp32): a feed-forward width of 1280 of 1536 passes, at overlap 0.705 and nDCG@10 −1.7 %; one
# layer less of six is refused, at −3.1 %.
_QUANTIZED = Tolerance(
    min_cosine=0.97,
    mean_cosine=0.985,
    max_batch_distance=1e-4,
    max_norm_error=1e-4,
    min_overlap=0.92,
    max_mrr_loss=0.02,
    max_ndcg_loss=0.02,
)
TOLERANCES: dict[Precision, Tolerance] = {
    Precision.FP32: Tolerance(
        min_cosine=0.99999,
        mean_cosine=0.99999,
        max_batch_distance=1e-4,
        max_norm_error=1e-4,
        min_overlap=0.99,
        max_mrr_loss=0.005,
        max_ndcg_loss=0.005,
    ),
    Precision.FP16: Tolerance(
        min_cosine=0.9995,
        mean_cosine=0.9999,
        max_batch_distance=1e-4,
        max_norm_error=1e-4,
        min_overlap=0.99,
        max_mrr_loss=0.005,
        max_ndcg_loss=0.005,
    ),
    Precision.BF16: Tolerance(
        min_cosine=0.999,
        mean_cosine=0.9995,
        max_batch_distance=1e-4,
        max_norm_error=1e-4,
        min_overlap=0.98,
        max_mrr_loss=0.01,
        max_ndcg_loss=0.01,
    ),
    Precision.INT8: _QUANTIZED,
    Precision.INT8_BF16: _QUANTIZED,
}


def tolerance_of(precision: Precision, *, pruned: bool) -> Tolerance:
    """What a model must hold.

    A pruned one is another model: it may order codes otherwise as long as the right one is found as well as int8 must.
    """
    tolerance = TOLERANCES[precision]
    if not pruned:
        return tolerance
    return replace(
        tolerance, min_overlap=0.0, max_mrr_loss=_QUANTIZED.max_mrr_loss, max_ndcg_loss=_QUANTIZED.max_ndcg_loss
    )
