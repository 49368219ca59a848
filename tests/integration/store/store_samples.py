"""Chunks and unit vectors for the tests, the same on every run."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from gateway.store.rows import ChunkRow


def sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def make_chunk(number: int, *, path: str | None = None, version: str = "1", count: int = 1, text: str = "") -> ChunkRow:
    content = text or f"def f{number}(): ...  # {version}"
    return ChunkRow(
        path=path or f"src/f{number:05d}.py",
        language="python",
        symbol=f"f{number}",
        kind="function",
        start_line=1,
        end_line=2,
        content=content,
        text_sha256=sha256(content),
        file_sha256=sha256(version),
        ordinal=0,
        file_chunk_count=count,
    )


def make_vectors(count: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Give (count, 2560) unit vectors near one 48-dimensional subspace, since real embeddings do not fill theirs."""
    basis = np.random.default_rng(2560).standard_normal((48, 2560))
    generator = np.random.default_rng(seed)
    vectors = generator.standard_normal((count, 48)) @ basis + 0.5 * generator.standard_normal((count, 2560))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
