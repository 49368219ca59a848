"""Which precision this machine can serve natively."""

from pathlib import Path

from export.errors import ExportError

_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The CPU's feature flags; empty where the kernel lists none."""
    if not cpuinfo.is_file():
        return frozenset()
    for line in cpuinfo.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def resolve_precision(requested: str, runtime: str, flags: frozenset[str]) -> str:
    """`bf16` or `f32` from what was asked for and what the CPU has.

    Args:
        requested: `auto`, `bf16` or `f32`.
        runtime: `openvino` or `onnxruntime`; the latter runs f32 only.
        flags: Feature flags of the CPU.

    Raises:
        ExportError: bf16 was asked for and cannot be had.
    """
    has_bf16 = bool(flags & _BF16_FLAGS)
    if requested == "bf16":
        if runtime == "onnxruntime":
            raise ExportError("onnxruntime runs f32 on CPU; use --precision f32, or --runtime openvino")
        if not has_bf16:
            raise ExportError("this CPU has neither avx512_bf16 nor amx_bf16; use --precision f32")
    if requested == "auto":
        return "bf16" if has_bf16 and runtime == "openvino" else "f32"
    return requested
