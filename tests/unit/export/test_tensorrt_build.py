"""The Python builder's calls, recorded: TensorRT itself needs a GPU, and no machine of the tests has one."""

import sys
from pathlib import Path

import pytest
from deployments import SMALL
from tensorrt_recorder import Recorder

from export.errors import ExportError
from export.gpu import Gpu
from export.profiles import profiles_of
from export.tensorrt_build import EngineOptions, build_engine
from export.tensorrt_engine import EngineRecord, read_record


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "tensorrt", recorder)
    monkeypatch.setattr("export.tensorrt_build.find_gpu", lambda: Gpu("NVIDIA H100", "9.0"))
    return recorder


def test_the_engine_is_typed_by_its_graph_and_has_one_profile_a_bucket(recorder: Recorder, tmp_path: Path) -> None:
    """Without the flag TensorRT 10 would run norms and softmax in 16 bits."""
    record = build_engine(tmp_path, SMALL)
    assert recorder.network_flags == 1 << 1
    assert recorder.parsed == str(tmp_path / "model.onnx")
    assert recorder.config.limits == {"workspace": 8 << 30}
    assert recorder.config.flags == set()
    assert [one.shapes for one in recorder.config.profiles] == [
        {name: (bounds.least, bounds.optimal, bounds.most) for name, bounds in profile.items()}
        for profile in profiles_of(SMALL)
    ]
    assert (tmp_path / "model.plan").read_bytes() == b"engine"
    assert record == EngineRecord("11.4.0", "NVIDIA H100", "9.0", version_compatible=False)
    assert read_record(tmp_path) == record


def test_options_reach_the_builder_and_the_timing_cache_grows(recorder: Recorder, tmp_path: Path) -> None:
    """What one build measured, the next one knows."""
    cache = tmp_path / "caches" / "h100.cache"
    options = EngineOptions(workspace_bytes=1 << 20, version_compatible=True, timing_cache=cache)
    build_engine(tmp_path, SMALL, options)
    assert recorder.config.limits == {"workspace": 1 << 20}
    assert recorder.config.flags == {"version compatible"}
    assert cache.read_bytes() == b"+measured"
    record = build_engine(tmp_path, SMALL, options)
    assert cache.read_bytes() == b"+measured+measured"
    assert record.version_compatible


def test_progress_tells_the_outermost_phases(recorder: Recorder, tmp_path: Path) -> None:
    """A build takes minutes; its thousands of inner steps are nobody's news."""
    steps: list[str] = []
    build_engine(tmp_path, SMALL, on_step=steps.append)
    assert steps == ["Building engine: 2 steps", "Building engine: 1 of 2"]


def test_a_graph_that_tensorrt_does_not_take_is_named(recorder: Recorder, tmp_path: Path) -> None:
    """With the parser's reasons, in one line."""
    recorder.parser_errors = ["node 7: no such\nop", "node 9: neither"]
    with pytest.raises(
        ExportError, match=r"TensorRT 11\.4\.0\.106 cannot take .*model\.onnx: node 7: no such op; node 9"
    ):
        build_engine(tmp_path, SMALL)


def test_a_failed_build_gives_tensorrts_own_errors_and_no_file(recorder: Recorder, tmp_path: Path) -> None:
    """Errors, not warnings."""
    recorder.fails = True
    with pytest.raises(ExportError, match=r"built no engine of .*model\.onnx: no tactic fits$"):
        build_engine(tmp_path, SMALL)
    assert list(tmp_path.iterdir()) == []
