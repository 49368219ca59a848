"""Versions appear whole or not at all, and what a dead exporter left never counts as published."""

import json
import shutil
from pathlib import Path

import pytest
from small_encoder import build_small, commit_small, entries

from export.errors import ExportError
from export.repository import EncoderFolder, ServingState, encoders
from export.triton_config import parse_config
from export.version import damaged_files, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> EncoderFolder:
    """An encoder of which nothing is published."""
    return EncoderFolder(tmp_path, "small-code")


def test_versions_count_up_and_the_newest_is_served(folder: EncoderFolder) -> None:
    """Each publish is the next number; config.pbtxt follows, and the manifest says which it is."""
    assert folder.state() is None and folder.served() is None and folder.versions() == []
    first, second = commit_small(folder, seed=1), commit_small(folder, seed=2)
    assert (first.folder.name, second.folder.name) == ("1", "2")
    assert [one.number for one in folder.versions()] == [1, 2]
    assert folder.state() == ServingState(served=2, loaded=(2,), newest=2)
    served = folder.served()
    assert served is not None and served.manifest["version"] == 2
    assert entries(folder) == ["1", "2", "config.pbtxt"]
    assert encoders(folder.path.parent) == ["small-code"]


def test_a_lock_alone_is_no_encoder(folder: EncoderFolder) -> None:
    """A publish that failed before it wrote anything leaves its lock, and nothing to list."""
    with folder.building():
        pass
    assert encoders(folder.path.parent) == []


def test_a_failed_build_keeps_the_candidate_before(folder: EncoderFolder) -> None:
    """Staging is removed; the older candidate stays as it was."""
    before = build_small(folder, seed=1)

    def build_half() -> None:
        with folder.staging() as staged:
            (staged / "model.onnx").write_bytes(b"half")
            raise ExportError("broken")

    with pytest.raises(ExportError, match="broken"):
        build_half()
    assert entries(folder) == [".candidate"]
    assert folder.candidate() == before and damaged_files(before) == []


def test_a_new_candidate_replaces_the_old_one(folder: EncoderFolder) -> None:
    """There is one at most."""
    build_small(folder, seed=1)
    second = build_small(folder, seed=2)
    assert folder.candidate() == second
    assert entries(folder) == [".candidate"]


def test_what_was_never_committed_is_no_version(folder: EncoderFolder) -> None:
    """A crash between the rename and config.pbtxt: version 1 is served, and 2 becomes the candidate again."""
    commit_small(folder, seed=1)
    built = build_small(folder, seed=2)
    folder.promote()
    assert entries(folder) == ["1", "2", "config.pbtxt"]
    assert [one.number for one in folder.versions()] == [1]
    assert [number for number, _ in folder.unpublished()] == [2]
    (line,) = folder.clear_leftovers()
    assert line == f"{folder.path / '2'} was never published; it is the candidate again"
    candidate = folder.candidate()
    assert candidate is not None and candidate.manifest["files"] == built.manifest["files"]
    assert folder.promote().number == 2


def test_a_candidate_that_is_newer_goes_before_a_leftover(folder: EncoderFolder) -> None:
    """Somebody built after the crash: what the crash left is removed."""
    commit_small(folder, seed=1)
    build_small(folder, seed=2)
    folder.promote()
    build_small(folder, seed=3)
    assert folder.clear_leftovers() == [f"removed {folder.path / '2'}, which was never published"]
    assert entries(folder) == [".candidate", "1", "config.pbtxt"]


def test_versions_above_the_served_one_stay_published_after_a_rollback(folder: EncoderFolder) -> None:
    """`newest_version` tells what was rolled back from what was never published."""
    commit_small(folder, seed=1)
    commit_small(folder, seed=2)
    text = folder.config_path.read_text()
    config = parse_config(text, "test")
    config.parameters["served_version"].string_value = "1"
    config.version_policy.specific.versions[:] = [1]
    folder.commit(str(config))
    assert folder.state() == ServingState(served=1, loaded=(1,), newest=2)
    assert folder.clear_leftovers() == []
    assert [one.number for one in folder.versions()] == [1, 2]
    build_small(folder, seed=3)
    assert folder.promote().number == 3


def test_a_missing_served_folder_makes_no_other_version_a_leftover(folder: EncoderFolder) -> None:
    """Somebody removed the served version by hand; the older one must not be cleared away after it."""
    commit_small(folder, seed=1)
    commit_small(folder, seed=2)
    shutil.rmtree(folder.path / "2")
    assert folder.clear_leftovers() == []
    assert [one.number for one in folder.versions()] == [1]
    with pytest.raises(ExportError, match=r"cannot read .*/2/manifest.json: No such file or directory"):
        folder.served()


def test_a_configuration_from_git_has_no_versions(folder: EncoderFolder) -> None:
    """`model_repository/` in git names version 1 and has no weights: the first publish there is version 1."""
    commit_small(folder, seed=1)
    config = parse_config(folder.config_path.read_text(), "test")
    del config.parameters["newest_version"]
    shutil.rmtree(folder.path / "1")
    folder.commit(str(config))
    assert folder.state() is None
    build_small(folder, seed=1)
    assert folder.promote().number == 1


def test_a_repository_of_an_older_exporter_is_read(folder: EncoderFolder) -> None:
    """It loaded one version, which was the served and the newest one."""
    folder.path.mkdir()
    for number in ("1", "2"):
        (folder.path / number).mkdir()
        write_manifest(folder.path / number, {"schema": 1, "version": int(number), "files": {}})
    folder.commit('name: "small-code" version_policy { specific { versions: 2 } }')
    assert folder.state() == ServingState(served=2, loaded=(2,), newest=2)
    assert [one.number for one in folder.versions()] == [1, 2]


def test_leftovers_of_a_killed_exporter_are_removed(folder: EncoderFolder) -> None:
    """Whoever holds the lock is alive, so they belong to nobody."""
    commit_small(folder, seed=1)
    for name in (".staging-dead", ".trash-dead/7"):
        (folder.path / name).mkdir(parents=True)
    (folder.path / ".config.pbtxt.new").write_text("half")
    assert [one.number for one in folder.versions()] == [1]
    folder.clear_leftovers()
    assert entries(folder) == ["1", "config.pbtxt"]


def test_damage_is_found_by_digest(folder: EncoderFolder) -> None:
    """Changed and missing files are both named."""
    version = commit_small(folder, seed=1)
    assert damaged_files(version) == []
    (version.folder / "tokenizer.json").write_text("[]")
    (version.folder / "model.onnx").unlink()
    assert damaged_files(version) == [version.folder / "model.onnx", version.folder / "tokenizer.json"]


@pytest.mark.parametrize(("text", "reason"), [("{", "Expecting property name"), ("[]", "is not a manifest")])
def test_an_unreadable_manifest_is_named(folder: EncoderFolder, text: str, reason: str) -> None:
    """A damaged version is reported, not skipped."""
    version = commit_small(folder, seed=1)
    (version.folder / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(ExportError, match=rf"/small-code/1/manifest.json.*{reason}|{reason}"):
        folder.versions()


def test_an_unreadable_configuration_is_named(folder: EncoderFolder) -> None:
    """So is one that serves nothing."""
    commit_small(folder, seed=1)
    folder.commit('name: "small-code" parameters { key: "served_version" value { string_value: "x" } }')
    with pytest.raises(ExportError, match=r"config.pbtxt does not say which version is served"):
        folder.state()
    folder.commit("name: {")
    with pytest.raises(ExportError, match=r"config.pbtxt is not a Triton model configuration"):
        folder.state()


def test_a_manifest_is_replaced_whole(folder: EncoderFolder) -> None:
    """An update that the disk refuses leaves the old manifest, and no half of a new one."""
    candidate = build_small(folder, seed=1)
    (candidate.folder / ".manifest.json.new").mkdir()
    with pytest.raises(ExportError, match=r"cannot write .*manifest.json.new: Is a directory"):
        folder.update_candidate({"gate": None})
    assert json.loads((candidate.folder / "manifest.json").read_text()) == candidate.manifest
