"""A model that is not the one that was published is never served."""

import hashlib
import json
from pathlib import Path

import pytest

from gateway.errors import StartupError
from gateway.local.stack import verify_repository

ENCODERS = ("compact-code", "compact-text")
FILES = {"model.onnx": b"graph", "tokenizer.json": b"{}", "model.py": b"pass"}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for encoder in ENCODERS:
        version = tmp_path / encoder / "1"
        version.mkdir(parents=True)
        (version.parent / "config.pbtxt").write_text(f'name: "{encoder}"')
        for name, content in FILES.items():
            (version / name).write_bytes(content)
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
        manifest = {"encoder": encoder, "version": 1, "files": digests}
        (version / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def test_an_intact_repository_lists_its_versions(repository: Path) -> None:
    assert verify_repository(repository, ENCODERS) == ["compact-code/1", "compact-text/1"]


def test_a_changed_byte_names_the_file_and_the_command_that_mends_it(repository: Path) -> None:
    path = repository / "compact-text" / "1" / "model.onnx"
    path.write_bytes(b"grapH")
    with pytest.raises(StartupError) as caught:
        verify_repository(repository, ENCODERS)
    assert str(caught.value) == (
        f"{path} is corrupt: its SHA-256 is not that of its manifest; "
        f"publish again: `duovec-export publish --pair compact --repository {repository}`"
    )


@pytest.mark.parametrize(
    "missing", ["config.pbtxt", "1/manifest.json", "1/model.onnx", "1/tokenizer.json", "1/model.py"]
)
def test_a_missing_file_is_named(repository: Path, missing: str) -> None:
    path = repository / "compact-code" / missing
    path.unlink()
    with pytest.raises(StartupError, match="is missing; publish again") as caught:
        verify_repository(repository, ENCODERS)
    assert str(path) in str(caught.value)


def test_an_encoder_without_a_version_is_named(repository: Path) -> None:
    (repository / "compact-code" / "1").rename(repository / "elsewhere")
    with pytest.raises(StartupError, match="compact-code holds no published version"):
        verify_repository(repository, ENCODERS)


@pytest.mark.parametrize("manifest", ["{", "[]", "{}", '{"files": [1], "encoder": "x", "version": 1}'])
def test_an_unreadable_manifest_is_named(repository: Path, manifest: str) -> None:
    (repository / "compact-code" / "1" / "manifest.json").write_text(manifest)
    with pytest.raises(StartupError, match=r"compact-code/1/manifest\.json is unreadable"):
        verify_repository(repository, ENCODERS)


def test_a_version_copied_from_another_encoder_is_refused(repository: Path) -> None:
    source = repository / "compact-text" / "1" / "manifest.json"
    (repository / "compact-code" / "1" / "manifest.json").write_bytes(source.read_bytes())
    with pytest.raises(StartupError, match="belongs to compact-text/1"):
        verify_repository(repository, ENCODERS)
