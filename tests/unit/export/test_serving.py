"""Which precision is built, by what was asked for and what the CPU has."""

import pytest

from export.errors import ExportError
from export.serving import Precision, Runtime, resolve_precision

NEW, OLD = frozenset({"avx512f", "avx512_bf16"}), frozenset({"avx512f"})


@pytest.mark.parametrize(
    ("requested", "runtime", "preferred", "flags", "expected"),
    [
        ("auto", Runtime.OPENVINO, Precision.BF16, NEW, Precision.BF16),
        ("auto", Runtime.OPENVINO, Precision.BF16, OLD, Precision.FP32),
        ("auto", Runtime.OPENVINO, Precision.INT8_BF16, OLD, Precision.FP32),
        ("auto", Runtime.ONNXRUNTIME, Precision.INT8_BF16, NEW, Precision.FP32),
        ("auto", Runtime.TENSORRT, Precision.BF16, OLD, Precision.BF16),
        ("int8", Runtime.OPENVINO, Precision.BF16, OLD, Precision.INT8),
        ("int8-bf16", Runtime.OPENVINO, Precision.BF16, NEW, Precision.INT8_BF16),
    ],
)
def test_precision_is_what_was_asked_for_or_preferred(
    requested: str, runtime: Runtime, preferred: Precision, flags: frozenset[str], expected: Precision
) -> None:
    assert resolve_precision(requested, runtime, preferred, flags) is expected


def test_what_is_quantized_and_what_takes_bf16() -> None:
    assert [one for one in Precision if one.is_quantized] == [Precision.INT8, Precision.INT8_BF16]
    assert [one for one in Precision if one.takes_bf16] == [Precision.BF16, Precision.INT8_BF16]


@pytest.mark.parametrize(("requested", "other"), [("bf16", "fp32"), ("int8-bf16", "int8")])
def test_what_a_cpu_lacks_is_refused(requested: str, other: str) -> None:
    """With what can be had instead."""
    with pytest.raises(ExportError, match=f"neither avx512_bf16 nor amx_bf16; use --precision {other}$"):
        resolve_precision(requested, Runtime.OPENVINO, Precision.FP32, OLD)
