from pathlib import Path

import pytest

from gateway.embedding.space import Space

from .published import manifest_of, write_version


@pytest.fixture(autouse=True)
def patient_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine an answer may take longer than a client waits to wake Triton, by a request that is counted."""
    monkeypatch.setattr("gateway.embedding.triton._PATIENCE_S", 60.0)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one version of both tiny encoders."""
    for role in ("code", "text"):
        write_version(tmp_path, manifest_of(role))
    return tmp_path


@pytest.fixture
def space(repository: Path) -> Space:
    return Space.load(repository, code_encoder="tiny-code", text_encoder="tiny-text")
