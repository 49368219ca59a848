"""Engines are refused where they do not run; what is missing on a machine is said in one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from deployments import SMALL

from export.errors import ExportError
from export.gpu import import_tensorrt
from export.profiles import profiles_of
from export.tensorrt_engine import EngineRecord, check_engine, open_engine, profile_for, read_record

RECORD = EngineRecord("11.4.0", "NVIDIA H100 80GB HBM3", "9.0", version_compatible=False)
COMPATIBLE = EngineRecord("11.4.0", "NVIDIA H100 80GB HBM3", "9.0", version_compatible=True)
# Stands in for the driver: one H100.
DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return INIT; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 7; return ordinal; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "NVIDIA H100", size); return device - 7; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 9 : 0; return device - 7; }
"""


@pytest.mark.parametrize(
    ("record", "running"),
    [(RECORD, "11.4.0.106"), (RECORD, "11.4.0"), (COMPATIBLE, "11.4.1"), (COMPATIBLE, "11.12.0.3")],
)
def test_an_engine_runs_where_it_was_built(record: EngineRecord, running: str) -> None:
    """The build number does not count; a version-compatible engine runs on later ones."""
    check_engine(record, Path("model.plan"), tensorrt_version=running, compute_capability="9.0")


@pytest.mark.parametrize(
    ("record", "running"),
    [(RECORD, "11.4.1"), (RECORD, "10.4.0"), (COMPATIBLE, "11.3.9"), (COMPATIBLE, "12.0.0")],
)
def test_an_engine_of_another_tensorrt_is_refused(record: EngineRecord, running: str) -> None:
    """With both versions and the next step, instead of TensorRT's own riddle."""
    message = rf"model\.plan was built by TensorRT 11\.4\.0, this is {running}; build it again on this machine: duovec-"
    with pytest.raises(ExportError, match=message):
        check_engine(record, Path("model.plan"), tensorrt_version=running, compute_capability="9.0")


def test_an_engine_of_another_gpu_is_refused() -> None:
    """An H100's engine on an L4."""
    with pytest.raises(ExportError, match=r"for NVIDIA H100 80GB HBM3 \(compute capability 9\.0\), this GPU has 8\.9"):
        check_engine(RECORD, Path("model.plan"), tensorrt_version="11.4.0", compute_capability="8.9")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not say what built the engine"),
        ("{", "does not say what built the engine"),
        ('{"tensorrt": "11.4.0"}', "does not say what built the engine"),
        (json.dumps({**RECORD.as_manifest(), "tensorrt": "eleven"}), "'eleven' is not a version of TensorRT"),
    ],
)
def test_an_engine_of_unknown_origin_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    """Nobody could tell whether it runs."""
    (tmp_path / "model.plan").write_bytes(b"engine")
    if content is not None:
        (tmp_path / "model.plan.json").write_text(content)
    with pytest.raises(ExportError, match=message):
        read_record(tmp_path)


def test_a_candidate_without_an_engine_says_how_to_get_one(tmp_path: Path) -> None:
    """After `--emit-build-script`, before the script ran."""
    with pytest.raises(ExportError, match=r"has no model\.plan yet: run its build script on a GPU"):
        read_record(tmp_path)


class ProfiledEngine:
    """The part of TensorRT's ICudaEngine that tells the profiles, for `SMALL`."""

    num_optimization_profiles = len(SMALL.length_buckets)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, int]]:
        bounds = profiles_of(SMALL)[profile_index][name]
        return [bounds.least, bounds.optimal, bounds.most]


@pytest.mark.parametrize(("rows", "tokens", "index"), [(1, 1, 0), (8, 16, 0), (8, 17, 1), (3, 33, 2), (8, 48, 2)])
def test_a_batch_runs_under_the_profile_of_its_bucket(rows: int, tokens: int, index: int) -> None:
    """Kernels tuned for another length would be slower, and outside its bounds fail."""
    shapes = {"input_ids": (rows, tokens), "attention_mask": (rows, tokens), "task_id": (rows, 1)}
    assert profile_for(ProfiledEngine(), shapes) == index


@pytest.mark.parametrize("shape", [(9, 16), (1, 49), (0, 16)])
def test_a_shape_that_no_profile_takes_is_an_error(shape: tuple[int, int]) -> None:
    """Rather than a vector of the wrong rows."""
    with pytest.raises(
        ExportError, match=rf"no profile of the TensorRT engine takes the shape \({shape[0]}, {shape[1]}"
    ):
        profile_for(ProfiledEngine(), {"input_ids": shape, "attention_mask": shape, "task_id": (shape[0], 1)})


def find_gpu_under(folder: Path) -> str:
    """What `find_gpu` prints in a process that finds the driver of a folder, and no other."""
    program = (
        "from export.errors import ExportError\nfrom export.gpu import find_gpu\n"
        "try: print(find_gpu())\nexcept ExportError as exc: print(exc)"
    )
    environment = {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()


@pytest.mark.parametrize(
    ("init", "count", "said"),
    [
        (0, 1, "Gpu(name='NVIDIA H100', compute_capability='9.0')"),
        (0, 0, "the NVIDIA driver of this machine finds no GPU; run this on the machine that will serve"),
        (100, 1, "the NVIDIA driver of this machine finds no GPU; run this on the machine that will serve"),
    ],
)
def test_the_driver_tells_the_gpu(tmp_path: Path, init: int, count: int, said: str) -> None:
    """Through the driver's own functions, compiled here to a library that answers for one."""
    (tmp_path / "driver.c").write_text(DRIVER.replace("INIT", str(init)).replace("COUNT", str(count)))
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", tmp_path / "driver.c"], check=True, timeout=60
    )
    assert find_gpu_under(tmp_path).startswith(said)


def test_a_missing_driver_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the way to build the engine elsewhere."""

    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("export.gpu.ctypes.CDLL", missing)
    (tmp_path / "model.plan").write_bytes(b"engine")
    (tmp_path / "model.plan.json").write_text(json.dumps(RECORD.as_manifest()))
    with pytest.raises(ExportError, match=r"no NVIDIA driver \(libcuda\.so\.1\); .*--emit-build-script FILE$"):
        open_engine(tmp_path)


def test_a_missing_tensorrt_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no dependency: the wheel is gigabytes, and of use on a GPU alone."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(ExportError, match=r"TensorRT cannot be loaded \(.*\); pip install tensorrt, or run this on"):
        import_tensorrt()
