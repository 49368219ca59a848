"""Publishing on the disk: the version runs in its own host in a fresh process before it is served."""

import json
from pathlib import Path

import pytest
from small_encoder import build_small, commit_small, entries

from export.errors import ExportError
from export.gate.settings import GateSettings
from export.proof import is_proven_by
from export.publish import publish_candidate, roll_back, unload
from export.repository import EncoderFolder, ServingState
from export.smoke import SmokeFailure
from export.triton_config import parse_config
from export.version import write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> EncoderFolder:
    """An encoder of which version 1 is published."""
    folder = EncoderFolder(tmp_path, "small-code")
    commit_small(folder, seed=1)
    return folder


def test_the_canary_runs_in_the_versions_own_host(folder: EncoderFolder) -> None:
    """The old version stays loaded for gateways that are pinned to it."""
    build_small(folder, seed=2)
    steps: list[str] = []
    served = publish_candidate(folder, None, on_step=steps.append)
    assert (served.version.number, served.loaded, served.smoke) == (2, (1, 2), "host")
    assert served.cosine == pytest.approx(1.0, abs=1e-9)
    assert folder.state() == ServingState(served=2, loaded=(1, 2), newest=2)
    assert steps[-2:] == ["replace config.pbtxt", "done"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"canary_seed": 9}, r"/small-code/2 gives another vector than the gate saw: cosine -?0\.\d+, at least 0.9999"),
        ({"host": "raise HostError('no such kernel')\n"}, r"/2 does not run in its own host: .*no such kernel"),
    ],
)
def test_another_vector_publishes_nothing(folder: EncoderFolder, fault: dict[str, object], message: str) -> None:
    """The new folder is gone, and config.pbtxt is what it was."""
    build_small(folder, **{"seed": 2, **fault})  # type: ignore[arg-type]
    before = folder.config_path.read_bytes()
    with pytest.raises(SmokeFailure, match=message):
        publish_candidate(folder, None)
    assert folder.config_path.read_bytes() == before
    assert entries(folder) == ["1", "config.pbtxt"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"gate": None}, "is not proven; run: duovec-export verify"), ({"gate": {"passed": False}}, "is not proven")],
)
def test_what_the_gate_has_not_passed_is_not_published(
    folder: EncoderFolder, changes: dict[str, object], message: str
) -> None:
    """The candidate stays, for verify."""
    build_small(folder, seed=2, changes=changes)
    with pytest.raises(ExportError, match=message):
        publish_candidate(folder, None)
    assert entries(folder) == [".candidate", "1", "config.pbtxt"]


def test_a_damaged_candidate_is_not_published(folder: EncoderFolder) -> None:
    """Its files are compared with its digests first."""
    candidate = build_small(folder, seed=2)
    (candidate.folder / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(ExportError, match=r"changed since it was built: .*/.candidate/model.onnx; build it again"):
        publish_candidate(folder, None)
    with pytest.raises(ExportError, match="holds no candidate; run: duovec-export build"):
        publish_candidate(EncoderFolder(folder.path.parent, "other"), None)


@pytest.mark.parametrize("changes", [{"precision": "fp16"}, {"spec": {"max_tokens": 64, "tasks": [], "vocab_size": 9}}])
def test_a_manifest_edited_after_the_gate_is_not_published(folder: EncoderFolder, changes: dict[str, object]) -> None:
    """Precision, prompts and limits are in no other file, and the canary's one row does not show them."""
    candidate = build_small(folder, seed=2)
    write_manifest(candidate.folder, {**candidate.manifest, **changes})
    with pytest.raises(ExportError, match=r"/.candidate is not proven; run: duovec-export verify"):
        publish_candidate(folder, None)
    assert entries(folder) == [".candidate", "1", "config.pbtxt"]


def test_a_manifest_edited_later_is_not_rolled_back_to(folder: EncoderFolder) -> None:
    """It is one of the version's files."""
    commit_small(folder, seed=2)
    older = folder.versions()[0]
    write_manifest(older.folder, {**older.manifest, "precision": "fp16"})
    with pytest.raises(ExportError, match=r"/1/manifest.json; choose another version with --to"):
        roll_back(folder, None)


def test_an_engine_that_does_not_run_here_says_so(folder: EncoderFolder) -> None:
    """A GPU runtime without a Triton at hand is published unproven by a smoke test, and the result says it."""
    native = {"backend": "onnxruntime", "num_threads": 1, "max_batch_size": 64, "length_buckets": [16, 32, 64]}
    build_small(folder, seed=2, changes={"runtime": "onnxruntime-cuda", "serving": native})
    served = publish_candidate(folder, None)
    # Another backend: one config.pbtxt cannot keep the old version loaded.
    assert (served.smoke, served.cosine, served.loaded) == ("none", None, (2,))
    assert (folder.path / "warmup" / "ones_64").stat().st_size == 64 * 8


def test_rolling_back_serves_the_older_version_and_keeps_the_newer(folder: EncoderFolder) -> None:
    """And forth again; the newest number is never forgotten."""
    commit_small(folder, seed=2)
    commit_small(folder, seed=3)
    assert roll_back(folder, None).version.number == 2
    assert folder.state() == ServingState(served=2, loaded=(2, 3), newest=3)
    assert roll_back(folder, None).version.number == 1
    assert roll_back(folder, None, to=3).version.number == 3
    assert folder.state() == ServingState(served=3, loaded=(1, 2, 3), newest=3)


def test_publishing_unloads_nothing_and_unloading_takes_what_it_is_told(folder: EncoderFolder) -> None:
    """The vectors that are searched may be of the oldest: without it no query could be embedded."""
    for seed in (2, 3):
        build_small(folder, seed=seed)
        publish_candidate(folder, None)
    assert folder.state() == ServingState(served=3, loaded=(1, 2, 3), newest=3)
    unload(folder, [2, 3], None)
    assert folder.state() == ServingState(served=3, loaded=(1, 3), newest=3)


def test_a_rollback_takes_the_configuration_from_the_versions_own_manifest(folder: EncoderFolder) -> None:
    """Version 1 runs on one thread, as it did before; version 2 came with four."""
    serving = {"backend": "python", "num_threads": 4, "max_batch_size": 64, "length_buckets": []}
    build_small(folder, seed=2, changes={"serving": serving})

    def threads() -> str:
        config = parse_config(folder.config_path.read_text(), "test")
        return str(config.parameters["num_threads"].string_value)

    publish_candidate(folder, None)
    assert threads() == "4"
    roll_back(folder, None)
    assert threads() == "1"


def test_a_rollback_that_cannot_be_is_refused(folder: EncoderFolder) -> None:
    """Unknown, damaged, too old: one line each, and nothing changes."""
    with pytest.raises(ExportError, match="small-code has no version older than 1, which is served"):
        roll_back(folder, None)
    with pytest.raises(ExportError, match="small-code has no published version 7; it has 1"):
        roll_back(folder, None, to=7)
    with pytest.raises(ExportError, match="nothing is published in"):
        roll_back(EncoderFolder(folder.path.parent, "other"), None)
    commit_small(folder, seed=2)
    before = folder.config_path.read_bytes()
    (folder.path / "1" / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(ExportError, match=r"/1/model.onnx; choose another version with --to"):
        roll_back(folder, None)
    manifest = folder.path / "1" / "manifest.json"
    manifest.write_text(json.dumps({"schema": 1, "version": 1, "files": {}}))
    with pytest.raises(ExportError, match=r"/1/manifest.json does not say how its version is served"):
        roll_back(folder, None)
    assert folder.config_path.read_bytes() == before


def test_a_weaker_gate_than_asked_for_proves_nothing(folder: EncoderFolder) -> None:
    """A quick verify while trying things out must not be what publishes a version."""
    gate = {"passed": True, "retrieval": {"pairs": 20}, "skipped_buckets": [128, 256]}
    candidate = build_small(folder, seed=2, changes={"gate": gate})
    assert is_proven_by(candidate, GateSettings(longest_bucket=64, pairs=20))
    assert not is_proven_by(candidate, GateSettings(longest_bucket=64, pairs=21))
    assert not is_proven_by(candidate, GateSettings(longest_bucket=128, pairs=20))
    failed = build_small(folder, seed=2, changes={"gate": {**gate, "passed": False}})
    assert not is_proven_by(failed, GateSettings(longest_bucket=64, pairs=20))
