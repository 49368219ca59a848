"""Where the figures of a benchmark stay."""

import json
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
# Before the benchmark does anything itself: figures of a busy machine must be seen as such.
_LOAD_AVERAGE = os.getloadavg()[0]


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "processors": os.cpu_count(),
        "machine": platform.machine(),
        "bf16 by": _bf16_units(),
        "python": platform.python_version(),
        "load average before": round(_LOAD_AVERAGE, 2),
    }


def _bf16_units() -> list[str]:
    """What the processor multiplies bf16 by: of two machines with two cores one was twice as fast as the other."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(encoding="utf-8").split() if cpuinfo.exists() else []
    return [flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags]


def kept(name: str) -> dict[str, Any]:
    """What was kept of the benchmark the last time; empty where nothing was."""
    path = RESULTS / f"{name}.json"
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return document


def keep(name: str, document: dict[str, Any], *, only_print: bool = False) -> None:
    """Print a document as one JSON line, and keep it with the machine in results/NAME.json."""
    document = {"machine": machine(), **document}
    print(json.dumps(document))
    if only_print:
        return
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def rounded(value: Any) -> Any:
    """Figures, with numbers in any depth rounded."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return round(value, 3) if isinstance(value, float) else value
