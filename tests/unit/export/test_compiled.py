"""Compiled graphs are kept for the next start, and whatever lies in their place, the vectors are the version's own."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from small_encoder import build_small, table_of, vector_of

from export.python_backend.host import EncoderHost, OpenVinoSession, check_rows, open_host
from export.repository import EncoderFolder
from export.source import sha256_of

ROW = [3, 1, 4, 1, 5]


def build(folder: Path, seed: int) -> Path:
    """A version folder for OpenVINO."""
    return build_small(EncoderFolder(folder, "small-code"), seed=seed, changes={"runtime": "openvino"}).folder


def load(version: Path, kept_in: Path) -> tuple[bool, EncoderHost]:
    """Load a version; whether it was taken up compiled, and the host."""
    host = open_host(version, num_threads=1, token_budget=512, keep_compiled=kept_in)
    assert isinstance(host._session, OpenVinoSession)
    return host._session.was_kept, host


def require_vector(host: EncoderHost, seed: int) -> None:
    """The vector is numpy's."""
    row = np.array([ROW])
    (vectors,) = host.embed([check_rows(row, np.ones_like(row), None, host.limits)])
    np.testing.assert_allclose(vectors[0], vector_of(seed, ROW), atol=1e-6)


def blob_of(kept_in: Path) -> Path:
    """The one file that OpenVINO wrote."""
    (blob,) = kept_in.glob("*/*.blob")
    return blob


@pytest.fixture
def kept_in(tmp_path: Path) -> Path:
    """Where the version's compiled graph is kept."""
    return tmp_path / ".compiled" / "1"


def test_the_second_start_takes_up_what_the_first_compiled(tmp_path: Path, kept_in: Path) -> None:
    """Both give the vector of numpy; nothing is left beside what is kept."""
    version = build(tmp_path, seed=5)
    for number in range(2):
        was_kept, host = load(version, kept_in)
        assert was_kept == bool(number)
        require_vector(host, seed=5)
    assert len(list(kept_in.iterdir())) == 1
    # More threads run the same graph.
    assert OpenVinoSession(version / "model.onnx", "fp32", 2, blob_of(kept_in).parent).was_kept


def test_a_damaged_one_is_compiled_anew(tmp_path: Path, kept_in: Path) -> None:
    """OpenVINO has no checksum of the weights, and would run them."""
    version = build(tmp_path, seed=5)
    load(version, kept_in)
    blob = blob_of(kept_in)
    table = table_of(5).tobytes()
    content = blob.read_bytes()
    assert content.count(table) == 1
    damaged = content.replace(table, table_of(6).tobytes())
    blob.unlink()
    blob.write_bytes(damaged)
    assert OpenVinoSession(version / "model.onnx", "fp32", 1, blob.parent).was_kept  # OpenVINO notices nothing
    was_kept, host = load(version, kept_in)
    assert not was_kept
    require_vector(host, seed=5)
    assert load(version, kept_in)[0]


def test_another_graph_in_its_place_is_compiled_anew(tmp_path: Path, kept_in: Path) -> None:
    """With every digest right, and the same path, size and time of the graph: the canary gives it away."""
    version = build(tmp_path, seed=5)
    load(version, kept_in)
    name, time_ns = blob_of(kept_in).parent.name, (version / "model.onnx").stat().st_mtime_ns
    foreign = build(tmp_path, seed=6)
    assert foreign == version
    os.utime(version / "model.onnx", ns=(time_ns, time_ns))
    load(foreign, kept_in)
    blob_of(kept_in).parent.rename(kept_in / name)
    build(tmp_path, seed=5)
    os.utime(version / "model.onnx", ns=(time_ns, time_ns))
    kept = blob_of(kept_in).parent
    assert json.loads((kept / "digests.json").read_text()) == {blob_of(kept_in).name: sha256_of(blob_of(kept_in))}
    assert OpenVinoSession(version / "model.onnx", "fp32", 1, kept).was_kept  # OpenVINO would run it
    was_kept, host = load(version, kept_in)
    assert not was_kept
    require_vector(host, seed=5)


@pytest.mark.parametrize("what", ["other graph", "other precision"])
def test_what_decides_the_graph_is_in_the_name(tmp_path: Path, kept_in: Path, what: str) -> None:
    """What was kept for something else is passed over, and cleared away."""
    version = build(tmp_path, seed=5)
    load(version, kept_in)
    if what == "other graph":
        version = build(tmp_path, seed=6)
    else:
        changes = {"runtime": "openvino", "precision": "int8"}
        version = build_small(EncoderFolder(tmp_path, "small-code"), seed=6, changes=changes).folder
    was_kept, host = load(version, kept_in)
    assert not was_kept
    require_vector(host, seed=6)
    assert len(list(kept_in.iterdir())) == 1


def test_a_place_that_cannot_be_written_costs_time_only(tmp_path: Path, kept_in: Path) -> None:
    """As on a repository that is mounted read-only."""
    version = build(tmp_path, seed=5)
    kept_in.parent.write_text("a file where the folder should be")
    was_kept, host = load(version, kept_in)
    assert not was_kept
    require_vector(host, seed=5)


def test_without_a_canary_nothing_is_kept(tmp_path: Path, kept_in: Path) -> None:
    """Nothing could tell whether it is the right one."""
    version = build(tmp_path, seed=5)
    (version / "canary.json").unlink()
    assert not load(version, kept_in)[0]
    assert not kept_in.exists()


def test_a_version_takes_its_compiled_graph_along_when_it_goes(tmp_path: Path) -> None:
    """A graph is as large as the weights."""
    folder = EncoderFolder(tmp_path, "small-code")
    build_small(folder, seed=5, changes={"runtime": "openvino"})
    version = folder.promote()
    kept_in = folder.path / ".compiled" / "1"
    load(version.folder, kept_in)
    assert kept_in.is_dir()
    folder.remove(version)
    assert not kept_in.exists()
    (kept_in.parent / "7").mkdir()
    folder.clear_leftovers()
    assert not (kept_in.parent / "7").exists()
