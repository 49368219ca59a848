"""Checkpoints of the compact code encoder that search as well as it does, or far worse."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from export.adapters import save_adapters
from export.encoder import read_adapters
from export.source import ADAPTERS_FILE, open_checkpoint
from export.spec import load_builtin
from export.transformer import load_transformer

ENCODER = "compact-code"


def write_adapters(folder: Path, *, rank: int | None = None, scale: float = 1.0, shuffled: bool = False) -> Path:
    """The encoder's own adapters; with `rank` a head that keeps so few directions and words that weigh nothing, with
    `scale` or `shuffled` other weights of the head.

    A head that is scaled gives the same vectors by another checkpoint: the encoder normalizes. One whose outputs are
    shuffled finds the same by vectors that have nothing in common with the encoder's own.
    """
    spec = load_builtin(ENCODER)
    checkpoint = open_checkpoint(spec)
    adapters = read_adapters(spec, checkpoint, load_transformer(spec, checkpoint))
    assert adapters.head is not None and adapters.words is not None
    head_DH = adapters.head.astype(np.float64) * scale
    if rank is not None:
        basis_HR = np.linalg.qr(np.random.default_rng(5).standard_normal((head_DH.shape[1], rank)))[0]
        head_DH = head_DH @ basis_HR @ basis_HR.T
        adapters = replace(adapters, words=np.zeros_like(adapters.words))
    if shuffled:
        head_DH = np.random.default_rng(6).permutation(head_DH)
    folder.mkdir(parents=True, exist_ok=True)
    save_adapters(replace(adapters, head=head_DH.astype(np.float32)), folder / ADAPTERS_FILE)
    return folder
