"""Candidates, the live space, the untrained base and BM25, asked the same questions of packages held out.

Shapes: N texts, D dimension, Q queries.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from export.spec import ROLE_DIMENSIONS, EncoderSpec
from gateway.client.client import Client
from gateway.client.embedding import InputType
from training.dataset import load_rows
from training.errors import TrainingError
from training.evaluation.metrics import Ints, Ranking, rank_scores, rank_vectors
from training.evaluation.opponent import Opponent
from training.evaluation.questions import CONDITIONS, Questions, ask, draw_rows

if TYPE_CHECKING:
    from training.evaluation.encoding import TextEncoder

Vectors = NDArray[np.float32]
CANDIDATE, LIVE, BASE, BM25 = "candidate", "live", "untrained base", "BM25"
SYSTEMS = (CANDIDATE, LIVE, BASE, BM25)
OnStep = Callable[[str], None]
_TEXTS_A_CALL = 32


@dataclass(frozen=True)
class Candidate:
    """An encoder that is to replace the one of its role: its spec, and the folder of its checkpoint."""

    spec: EncoderSpec
    folder: Path


@dataclass(frozen=True)
class Measurement:
    """What every system found.

    Attributes:
        against: Fingerprint of the live space, or the name of the baseline.
        questions: By condition.
        rankings: By condition and system.
    """

    against: str
    questions: Mapping[str, Questions]
    rankings: Mapping[str, Mapping[str, Ranking]]


class LiveSpace:
    """The active space, asked through the gateway as everybody asks it: in its own precision, cut at its own length."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._fingerprint = ""

    @property
    def name(self) -> str:
        """Fingerprint of the space; empty before it was asked."""
        return self._fingerprint

    def embed(self, texts: Sequence[str], input_type: InputType, on_step: OnStep) -> Mapping[str, Vectors]:
        """Both halves of the vectors.

        Raises:
            ClientError: The gateway refuses, or cannot be reached.
            TrainingError: Another space was activated meanwhile.
        """
        parts = []
        for start in range(0, len(texts), _TEXTS_A_CALL):
            response = self._client.embed_response(texts[start : start + _TEXTS_A_CALL], input_type, truncate=True)
            if response.space != (self._fingerprint or response.space):
                raise TrainingError("another space was activated while this one was measured; run the command again")
            self._fingerprint = response.space
            parts.append(self._client.vectors_of(response))
            on_step(f"live space, {start + len(parts[-1])} of {len(texts)} texts")
        vectors_ND = np.concatenate(parts)
        at = ROLE_DIMENSIONS["code"]
        return {"code": _unit(vectors_ND[:, :at]), "text": _unit(vectors_ND[:, at:])}


class Baseline:
    """Checkpoints in place of the live space: only the encoders that are replaced, each alone or both joined."""

    def __init__(self, encoders: Mapping[str, tuple[EncoderSpec, Path | None]], name: str) -> None:
        """Args: encoders: By role, the spec and the checkpoint; None for the spec's own weights."""
        from training.evaluation.encoding import TextEncoder

        self._encoders = {role: TextEncoder(spec, folder) for role, (spec, folder) in encoders.items()}
        self._name = name

    @property
    def name(self) -> str:
        """What it was called."""
        return self._name

    def embed(self, texts: Sequence[str], input_type: InputType, on_step: OnStep) -> Mapping[str, Vectors]:
        """Vectors of the encoders that it has."""
        on_step("baseline")
        return {role: _encode(encoder, texts, input_type) for role, encoder in self._encoders.items()}


def measure(
    candidates: Mapping[str, Candidate],
    opponent: Opponent,
    data: Path,
    *,
    limit: int,
    seed: int,
    bases: Mapping[str, Path] | None = None,
    on_step: OnStep = lambda step: None,
) -> Measurement:
    """Ask everyone the test split's questions.

    Args:
        candidates: By role; a role that is not there is the opponent's.
        opponent: What they must be better than.
        data: Folder of a mined data set.
        limit: Queries, as evenly over the styles as can be.
        seed: Draws them.
        bases: By role, the checkpoint that a candidate was trained from; the source of its spec where there is none.
        on_step: Told about each stage.

    Raises:
        TrainingError: The data cannot be read or has too few rows, or a vector is not finite.
        ExportError: A checkpoint does not fit its spec.
        ClientError: The gateway refuses.
    """
    # torch takes seconds to load, and whoever looks after a publication, or takes one back, measures nothing.
    from training.evaluation.bm25 import bm25_scores
    from training.evaluation.encoding import TextEncoder

    # A checkpoint that does not fit is found before minutes of work.
    encoders = {role: TextEncoder(one.spec, one.folder) for role, one in candidates.items()}
    rows = draw_rows(load_rows(data, "test"), limit, seed)
    questions = {condition: ask(rows, condition) for condition in CONDITIONS}
    texts: dict[InputType, list[str]] = {
        "query": list(dict.fromkeys(row.query for asked in questions.values() for row in asked.rows)),
        "passage": list(dict.fromkeys(text for asked in questions.values() for text in asked.passages)),
    }
    live = {kind: opponent.embed(some, kind, on_step) for kind, some in texts.items()}
    halves: dict[str, dict[InputType, Mapping[str, Vectors]]] = {LIVE: live}
    on_step("candidate")
    halves[CANDIDATE] = {kind: {**live[kind], **_encode_all(encoders, some, kind)} for kind, some in texts.items()}
    on_step("untrained base")
    untrained = {role: TextEncoder(one.spec.untrained, (bases or {}).get(role)) for role, one in candidates.items()}
    halves[BASE] = {kind: {**live[kind], **_encode_all(untrained, some, kind)} for kind, some in texts.items()}
    rankings: dict[str, dict[str, Ranking]] = {condition: {} for condition in CONDITIONS}
    places = {kind: {text: number for number, text in enumerate(some)} for kind, some in texts.items()}
    for name, by_kind in halves.items():
        vectors = {kind: _joined(one) for kind, one in by_kind.items()}
        for condition, asked in questions.items():
            rankings[condition][name] = rank_vectors(
                vectors["query"][_numbers(places["query"], [row.query for row in asked.rows])],
                vectors["passage"][_numbers(places["passage"], asked.passages)],
                asked.right_Q,
            )
    on_step("BM25")
    for condition, asked in questions.items():
        scores_QP = bm25_scores([row.query for row in asked.rows], asked.passages)
        rankings[condition][BM25] = rank_scores(scores_QP, asked.right_Q)
    return Measurement(opponent.name, questions, rankings)


def _encode_all(encoders: Mapping[str, "TextEncoder"], texts: Sequence[str], kind: InputType) -> dict[str, Vectors]:
    return {role: _encode(encoder, texts, kind) for role, encoder in encoders.items()}


def _encode(encoder: "TextEncoder", texts: Sequence[str], kind: InputType) -> Vectors:
    return encoder.encode(texts, encoder.spec.query if kind == "query" else encoder.spec.passage)


def _joined(halves: Mapping[str, Vectors]) -> Vectors:
    if len(halves) == 1:
        return next(iter(halves.values()))
    from training.evaluation.encoding import join

    return join(halves["code"], halves["text"])


def _unit(part_ND: np.ndarray[Any, np.dtype[np.float32]]) -> Vectors:
    unit_ND: Vectors = part_ND / np.linalg.norm(part_ND, axis=1, keepdims=True)
    return unit_ND


def _numbers(places: Mapping[str, int], texts: Sequence[str]) -> Ints:
    return np.array([places[text] for text in texts], dtype=np.int64)
