"""Proves that Triton's versions are those of the repository before a vector of theirs is used.

A version's number says little: a Triton that was started on another repository serves the same numbers, and its vectors
look as sound. Every version is published with one row and the vector that it gave (`canary.json`); Triton must give it
again.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway.embedding.space import Encoder, InputType
from gateway.embedding.triton import Priority, TritonClient
from gateway.errors import BadVector, DeadlineExceeded, SpaceMismatch, TritonUnavailable

MIN_COSINE = 0.9999
"""The least that publishing accepts of the same row on the same version."""


@dataclass(frozen=True, slots=True, eq=False)
class Canary:
    """One row of tokens, its task where the encoder has any, and its vector (D,)."""

    ids_T: NDArray[np.int64]
    task_id: int | None
    vector_D: NDArray[np.float64]

    @classmethod
    def load(cls, path: Path) -> "Canary":
        """Read `canary.json`.

        Raises:
            SpaceMismatch: There is none that can be read, so that nothing can be proven.
        """
        try:
            table = json.loads(path.read_bytes())
            return cls(
                np.array(table["input_ids"], dtype=np.int64), table["task_id"], np.array(table["vector"], np.float64)
            )
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise SpaceMismatch(f"cannot prove what Triton serves: {path}: {exc!r}; publish the encoder again") from exc


class ProvenEncoders:
    """Runs encoders as `TritonClient` does, each only after it was proven, and again after it was away."""

    def __init__(self, triton: TritonClient) -> None:
        """Use `triton`; nothing is sent yet."""
        self._triton = triton
        # With how often the connection had been lost by then: a Triton that came back may be another.
        self._proven: dict[tuple[str, int], int] = {}
        self._locks: dict[tuple[str, int], asyncio.Lock] = {}

    async def check_ready(self, encoder: Encoder, *, timeout_s: float) -> None:
        """As `TritonClient.check_ready`."""
        try:
            await self._triton.check_ready(encoder, timeout_s=timeout_s)
        except TritonUnavailable:
            self.doubt(encoder)
            raise

    async def encode(
        self,
        encoder: Encoder,
        rows: Sequence[NDArray[np.int64]],
        input_type: InputType,
        *,
        priority: Priority,
        timeout_s: float,
    ) -> tuple[NDArray[np.float32], dict[int, BadVector]]:
        """As `TritonClient.encode`.

        Raises:
            SpaceMismatch: Triton serves another model under the name and version; nothing was run but the proof.
        """
        await self.prove(encoder, timeout_s=timeout_s)
        try:
            vectors = await self._triton.encode(encoder, rows, input_type, priority=priority, timeout_s=timeout_s)
        except TritonUnavailable:
            self.doubt(encoder)
            raise
        # Where the connection was lost meanwhile, the one that answered is proven afterwards.
        await self.prove(encoder, timeout_s=timeout_s)
        return vectors

    def doubt(self, encoder: Encoder) -> None:
        """Prove an encoder again before its next use: Triton may come back with other models."""
        self._proven.pop((encoder.name, encoder.version), None)

    async def prove(self, encoder: Encoder, *, timeout_s: float) -> None:
        """Check that Triton gives the vector that was seen when the version was published, unless it did before.

        Raises:
            SpaceMismatch: It gives another.
            TritonUnavailable, Overloaded, DeadlineExceeded, BackendFault: As `TritonClient.encode`.
        """
        key = (encoder.name, encoder.version)
        if self._is_proven(key):
            return
        try:
            # The wait for somebody else's proof is bounded, too: where Triton hangs, each would wait for all before it.
            async with asyncio.timeout(timeout_s), self._locks.setdefault(key, asyncio.Lock()):
                while not self._is_proven(key):
                    lost_count = self._triton.lost_count
                    await self._compare(encoder, timeout_s)
                    self._proven[key] = lost_count
        except TimeoutError as exc:
            raise DeadlineExceeded(f"encoder {encoder.name} did not answer in {timeout_s:.3g} s") from exc

    def _is_proven(self, key: tuple[str, int]) -> bool:
        return self._proven.get(key) == self._triton.lost_count

    async def _compare(self, encoder: Encoder, timeout_s: float) -> None:
        canary = await asyncio.to_thread(Canary.load, encoder.folder / "canary.json")
        vectors_1D, errors = await self._triton.encode(
            encoder,
            [canary.ids_T],
            _input_type(encoder, canary.task_id),
            priority=Priority.INTERACTIVE,
            timeout_s=timeout_s,
        )
        if errors:
            raise errors[0]
        cosine = _cosine(vectors_1D[0], canary.vector_D)
        # Written so that NaN fails too.
        if not cosine >= MIN_COSINE:
            raise SpaceMismatch(
                f"Triton gives another vector for encoder {encoder.name} version {encoder.version} than when it "
                f"was published (cosine {cosine:.4f}, at least {MIN_COSINE} is needed): it serves another model "
                f"repository than {encoder.folder.parent.parent}"
            )


def _input_type(encoder: Encoder, task_id: int | None) -> InputType:
    return next((kind for kind, task in encoder.task_ids.items() if task == task_id), InputType.PASSAGE)


def _cosine(found_D: NDArray[np.float32], seen_D: NDArray[np.float64]) -> float:
    if found_D.shape != seen_D.shape:
        return float("nan")
    return float(found_D @ seen_D / (np.linalg.norm(found_D) * np.linalg.norm(seen_D)))
