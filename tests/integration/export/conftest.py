"""The real Triton, serving a small encoder from a repository of the test's own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from small_encoder import build_small
from triton_caller import ENCODER

from export.publish import publish_candidate
from export.repository import EncoderFolder
from gateway.local.triton import Triton


@pytest.fixture
def folder(tmp_path: Path) -> EncoderFolder:
    """A repository in which version 1 of the small encoder is published: seed 1."""
    folder = EncoderFolder(tmp_path / "models", ENCODER)
    build_small(folder, seed=1)
    publish_candidate(folder, None)
    return folder


@pytest.fixture
async def triton(folder: EncoderFolder, tmp_path: Path) -> AsyncIterator[Triton]:
    """Triton, with what is published loaded."""
    server = Triton(folder.path.parent, [ENCODER], work_dir=tmp_path / "triton", log_path=tmp_path / "triton.log")
    await server.start()
    yield server
    await server.stop(grace_s=1)
