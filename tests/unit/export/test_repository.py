"""Versions appear whole or not at all, one exporter at a time."""

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from export import repository as repositories
from export.errors import ExportError
from export.spec import EncoderSpec
from export.triton_config import Serving, build_config, format_config

SERVING = Serving("onnxruntime", "f32", 2)


def publish_dummy(repository: Path, spec: EncoderSpec) -> Path:
    """Publish a version folder with one small file."""
    version = repositories.next_version(repository, spec.name)
    with repositories.locked(repository), repositories.staging(repository, spec.name) as folder:
        (folder / "model.onnx").write_bytes(b"x")
        repositories.write_manifest(folder, {"version": version, "files": {"model.onnx": "0" * 64}})
        config = format_config(build_config(spec, version, SERVING))
        return repositories.publish(repository, spec.name, folder, version, config)


def test_versions_count_up_and_the_newest_serves(tmp_path: Path, text_spec: EncoderSpec) -> None:
    """Each publish is the next number; config.pbtxt follows."""
    assert repositories.current_version(tmp_path, text_spec.name) is None
    first, second = publish_dummy(tmp_path, text_spec), publish_dummy(tmp_path, text_spec)
    assert (first.name, second.name) == ("1", "2")
    assert [one.version for one in repositories.published_versions(tmp_path, text_spec.name)] == [1, 2]
    current = repositories.current_version(tmp_path, text_spec.name)
    assert current is not None and current.version == 2
    assert current.manifest["schema"] == 1 and current.manifest["exporter"].startswith("duovec ")


def test_nothing_but_versions_and_the_config_is_left(tmp_path: Path, text_spec: EncoderSpec) -> None:
    """Staging folders are gone, and at the top of the repository Triton sees models only."""
    publish_dummy(tmp_path, text_spec)
    assert sorted(path.name for path in (tmp_path / text_spec.name).iterdir()) == ["1", "config.pbtxt"]
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [text_spec.name]
    assert repositories.encoders(tmp_path) == [text_spec.name]


def test_failed_build_publishes_nothing(tmp_path: Path, text_spec: EncoderSpec) -> None:
    """An exception inside staging leaves the old version serving."""
    publish_dummy(tmp_path, text_spec)

    def build_half() -> None:
        with repositories.staging(tmp_path, text_spec.name) as folder:
            (folder / "model.onnx").write_bytes(b"half")
            raise ExportError("broken")

    with pytest.raises(ExportError, match="broken"):
        build_half()
    assert sorted(path.name for path in (tmp_path / text_spec.name).iterdir()) == ["1", "config.pbtxt"]


def test_crash_before_the_config_leaves_the_old_version_serving(
    tmp_path: Path, text_spec: EncoderSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk between the two renames: version 2 lies there, version 1 serves, and 2 is not used again."""
    publish_dummy(tmp_path, text_spec)

    def full_disk(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(repositories, "_replace_text", full_disk)
        with pytest.raises(ExportError, match=r"cannot publish .*/2: No space left on device"):
            publish_dummy(tmp_path, text_spec)
    current = repositories.current_version(tmp_path, text_spec.name)
    assert current is not None and current.version == 1
    assert publish_dummy(tmp_path, text_spec).name == "3"


def test_leftovers_of_a_killed_exporter_are_removed(tmp_path: Path, text_spec: EncoderSpec) -> None:
    """The next exporter holds the lock, so they belong to nobody."""
    leftover = tmp_path / text_spec.name / ".staging-dead"
    leftover.mkdir(parents=True)
    publish_dummy(tmp_path, text_spec)
    assert not leftover.exists()


def hold_lock(repository: str, held: Any, release: Any) -> None:
    """Hold the lock in another process until told."""
    with repositories.locked(Path(repository)):
        held.set()
        release.wait(30)


def test_second_exporter_waits_then_fails_clearly(tmp_path: Path) -> None:
    """The lock holds across processes, and is free again once its holder is done."""
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold_lock, args=(str(tmp_path), held, release))
    process.start()
    try:
        assert held.wait(30)
        with (
            pytest.raises(ExportError, match=r"another exporter holds .*\.duovec-export\.lock; waited 0 s"),
            repositories.locked(tmp_path, wait_s=0.2),
        ):
            pass
        release.set()
        with repositories.locked(tmp_path, wait_s=30):
            pass
    finally:
        release.set()
        process.join(30)
    assert process.exitcode == 0


def test_unreadable_manifest_is_named(tmp_path: Path, text_spec: EncoderSpec) -> None:
    """A damaged version is reported, not skipped."""
    target = publish_dummy(tmp_path, text_spec)
    (target / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(ExportError, match=r"cannot read .*/1/manifest.json"):
        repositories.published_versions(tmp_path, text_spec.name)


def test_changed_file_is_found(tmp_path: Path, text_spec: EncoderSpec) -> None:
    """`verify` compares digests."""
    target = publish_dummy(tmp_path, text_spec)
    (version,) = repositories.published_versions(tmp_path, text_spec.name)
    assert repositories.damaged_files(version) == [target / "model.onnx"]
    assert json.loads((target / "manifest.json").read_text(encoding="utf-8"))["version"] == 1
