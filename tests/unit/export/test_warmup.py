"""Warm-up data that Triton reads from a file."""

from pathlib import Path

import numpy as np
import pytest
from deployments import SMALL, deployed

from export.errors import ExportError
from export.serving import Runtime
from export.warmup import warmup_lengths, write_warmup_data


def test_lengths_start_with_the_longest() -> None:
    """A memory arena that held it has room for the others."""
    assert warmup_lengths(SMALL) == (48, 32, 16)
    assert warmup_lengths(deployed("qodo-embed-1-1.5b", Runtime.ONNXRUNTIME_CUDA))[:2] == (2048, 1024)


def test_a_cpu_does_not_spend_minutes_on_it() -> None:
    """Rows of 2,048 tokens through 1.5 billion weights."""
    for runtime in (Runtime.OPENVINO, Runtime.ONNXRUNTIME_CPU):
        assert warmup_lengths(deployed("qodo-embed-1-1.5b", runtime)) == (512, 256, 128, 64, 32, 16)


def test_the_file_holds_a_mask_of_ones_as_long_as_the_longest_row(tmp_path: Path) -> None:
    """int64, as the graph takes it; written once."""
    write_warmup_data(tmp_path, SMALL)
    (path,) = tmp_path.rglob("*_*")
    assert path == tmp_path / "warmup" / "ones_48"
    assert np.array_equal(np.fromfile(path, dtype="<i8"), np.ones(48))
    path.write_bytes(b"short")
    write_warmup_data(tmp_path, SMALL)
    assert path.stat().st_size == 48 * 8
    assert [one.name for one in path.parent.iterdir()] == ["ones_48"]


def test_the_python_backend_needs_no_file(tmp_path: Path) -> None:
    """Its host warms itself up."""
    write_warmup_data(tmp_path, deployed("compact-text", Runtime.OPENVINO))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_is_one_line(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "warmup").write_text("")
    with pytest.raises(ExportError, match=r"cannot write .*/warmup: File exists"):
        write_warmup_data(tmp_path, SMALL)
