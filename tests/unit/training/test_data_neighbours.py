"""Hard negatives by a real encoder, against sentence-transformers on the same weights."""

from pathlib import Path

import numpy as np
from mined_sources import copy_packages, units_in
from sentence_transformers import SentenceTransformer

from export.source import open_checkpoint
from export.spec import load_builtin
from training.data.drafts import Draft
from training.data.neighbours import encoder_pools
from training.evaluation.encoding import TextEncoder


def test_an_encoder_gives_what_it_ranks_high_and_nothing_that_may_be_an_answer(tmp_path: Path) -> None:
    """The untrained head keeps the base's cosines, so the base alone must rank alike."""
    spec = load_builtin("compact-code").untrained
    units = [unit for unit in units_in(copy_packages(tmp_path, ("json",))) if len(unit.content) < 600]
    drafts = [Draft(unit, unit.content) for unit in units]
    asked = [(number, unit.symbol.replace("_", " ")) for number, unit in enumerate(units)]
    told: list[tuple[int, int]] = []
    pools = list(encoder_pools(TextEncoder(spec), lambda done, total: told.append((done, total)))(drafts, asked))

    model = SentenceTransformer(str(open_checkpoint(spec).folder), device="cpu")
    passages = model.encode([draft.passage for draft in drafts], normalize_embeddings=True)
    queries = model.encode([text for _, text in asked], normalize_embeddings=True)
    scores = np.asarray(queries) @ np.asarray(passages).T
    for own, pool in enumerate(pools):
        limit = 0.95 * scores[own, own]
        expected = [one for one in np.argsort(-scores[own]) if 0 < scores[own, one] < limit]
        assert len(pool) == min(60, len(expected))
        # Where two passages score nearly the same, their order is rounding.
        assert np.allclose(scores[own, pool[:5]], scores[own, expected[:5]], atol=1e-4)
    assert told[-1] == (2 * len(units), 2 * len(units))
