"""The smoke test: one real row, whose vector must come out of a loaded version as the gate saw it.

`python -m export.smoke FOLDER THREADS` runs it through a version folder's own host, in a process that has nothing of
the exporter's in memory, and prints the vector as JSON.

Shapes: S tokens, D numbers of a vector.
"""

import importlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from export.deployment import TOKEN_BUDGET
from export.errors import ExportError
from export.serving import Runtime
from export.version import Version, reading

CANARY = "canary.json"
MIN_COSINE = 0.9999
_TIMEOUT_S = 600.0


class SmokeFailure(ExportError):
    """A loaded version gives another vector than the gate saw: it must not be published."""


@dataclass(frozen=True)
class Canary:
    """One real row and its vector, from canary.json: token ids (S,), task id or None, vector (D,)."""

    input_ids: tuple[int, ...]
    task_id: int | None
    vector: NDArray[np.float64]

    def check(self, vector_D: NDArray[np.float32], where: str) -> float:
        """Compare a vector with the gate's.

        Returns:
            Their cosine.

        Raises:
            SmokeFailure: The dimension differs, or the cosine is under 0.9999.
        """
        if vector_D.shape != self.vector.shape:
            raise SmokeFailure(f"{where} gives {len(vector_D)} numbers, the gate saw {len(self.vector)}")
        found_D = vector_D.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine = float(found_D @ self.vector / (np.linalg.norm(found_D) * np.linalg.norm(self.vector)))
        # Written so that NaN fails too.
        if not cosine >= MIN_COSINE:
            raise SmokeFailure(
                f"{where} gives another vector than the gate saw: cosine {cosine:.6f}, at least {MIN_COSINE} is needed"
            )
        return cosine


def read_canary(version: Version) -> Canary:
    """The canary of a version folder.

    Raises:
        ExportError: It is missing or malformed.
    """
    path = version.folder / CANARY
    with reading(path):
        table = json.loads(path.read_text(encoding="utf-8"))
        try:
            vector_D = np.array(table["vector"], dtype=np.float64)
            return Canary(tuple(map(int, table["input_ids"])), table["task_id"], vector_D)
        except (KeyError, TypeError) as exc:
            raise ValueError(f"it is not a canary ({exc!r})") from exc


def run_in_fresh_process(version: Version, num_threads: int) -> NDArray[np.float32] | None:
    """The canary's vector through the version's own host, in a process of its own.

    Returns:
        vector_D (D,), float32; None for a runtime that needs Triton's container or a GPU.

    Raises:
        SmokeFailure: The host does not load the version or does not run the row.
    """
    if Runtime(version.manifest["runtime"]).backend != "python":
        return None
    command = [sys.executable, "-m", "export.smoke", str(version.folder), str(num_threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)  # noqa: S603
    except subprocess.TimeoutExpired as exc:
        raise SmokeFailure(f"{version.folder} did not answer within {_TIMEOUT_S:.0f} s in its own host") from exc
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise SmokeFailure(f"{version.folder} does not run in its own host: {last}")
    return np.array(json.loads(done.stdout.splitlines()[-1]), dtype=np.float32)


def _host_of(folder: Path) -> ModuleType:
    # The version's own copy, as Triton would load it, and not the exporter's.
    package = ModuleType("version")
    package.__path__ = [str(folder)]
    sys.modules["version"] = package
    return importlib.import_module("version.host")


def _main(folder: Path, num_threads: int) -> None:
    canary = read_canary(Version("", 0, folder, {}))
    host = _host_of(folder)
    encoder = host.open_host(folder, num_threads=num_threads, token_budget=TOKEN_BUDGET)
    ids_1S = np.array([canary.input_ids], dtype=np.int64)
    task_11 = None if canary.task_id is None else np.array([[canary.task_id]], dtype=np.int64)
    rows = host.check_rows(ids_1S, np.ones_like(ids_1S), task_11, encoder.limits)
    sys.stdout.write(json.dumps(encoder.embed([rows])[0][0].tolist()) + "\n")


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))
