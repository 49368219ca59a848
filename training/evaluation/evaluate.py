"""A pair, its halves, its base and BM25, asked the same questions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from export.spec import EncoderSpec
from training.dataset import Row, data_digest, load_rows
from training.device import choose_device
from training.evaluation.bm25 import bm25_scores
from training.evaluation.bootstrap import paired_interval
from training.evaluation.encoding import TextEncoder, Vectors, join
from training.evaluation.metrics import (
    RECALL_AT,
    Ranking,
    alignment,
    rank_scores,
    rank_vectors,
    triplet_accuracy,
    uniformity,
)
from training.evaluation.opponent import Opponent
from training.evaluation.questions import CONDITIONS, NAMED, Questions, ask, draw_rows

PAIR, CODE, TEXT, BASE, LIVE, BM25 = "pair", "code encoder", "text encoder", "untrained base", "live space", "BM25"
SPREAD = ("alignment", "uniformity", "triplet_accuracy")
_WORST = 20
OnStep = Callable[[str], None]


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate on what.

    Attributes:
        code: Spec of the code encoder.
        text: Spec of the text encoder.
        code_checkpoint: Its checkpoint; None for the spec's own weights.
        text_checkpoint: Likewise.
        data: Folder of a mined data set.
        code_base: What the code encoder was trained from; None for the spec's, before its adapters were trained.
        text_base: Likewise.
        split: `dev` or `test`.
        limit: Queries to ask.
        seed: Draws them.
        precision: Of the forward passes, `fp32` or `bf16`.
        device: Of the forward passes, as `choose_device` takes it.
    """

    code: EncoderSpec
    text: EncoderSpec
    code_checkpoint: Path | None
    text_checkpoint: Path | None
    data: Path
    split: str = "test"
    limit: int = 2000
    seed: int = 0
    precision: str = "fp32"
    device: str = "cpu"
    code_base: Path | None = None
    text_base: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """What was measured; `as_dict` is what `--json` prints.

    Attributes:
        facts: Data digest, split, counts; the live space's fingerprint where it was asked.
        rankings: By condition and system.
        questions: By condition.
        spread: `SPREAD` of each system that has vectors, names as they are; without negatives no triplet accuracy.
    """

    facts: dict[str, Any]
    rankings: dict[str, dict[str, Ranking]]
    questions: dict[str, Questions]
    spread: dict[str, dict[str, float]]

    @property
    def systems(self) -> tuple[str, ...]:
        """Who was asked, the pair first."""
        return tuple(self.rankings[NAMED])

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON."""
        return {
            **self.facts,
            "systems": {
                system: {
                    **self.spread.get(system, {}),
                    **{condition: self._slices(condition, system) for condition in CONDITIONS},
                }
                for system in self.systems
            },
            "comparisons": self.comparisons(),
            "worst": self.worst(),
        }

    def comparisons(self) -> list[dict[str, Any]]:
        """The pair against every other system: difference of MRR@10 with its 95 % interval, whole and by slice."""
        found = []
        for condition in CONDITIONS:
            ours = self.rankings[condition][PAIR].reciprocal()
            for system in self.systems[1:]:
                theirs = self.rankings[condition][system].reciprocal()
                for name, chosen_Q in self.questions[condition].slices().items():
                    interval = paired_interval(ours[chosen_Q], theirs[chosen_Q])
                    before = float(theirs[chosen_Q].mean())
                    found.append(
                        {
                            "condition": condition,
                            "against": system,
                            "slice": name,
                            "queries": int(chosen_Q.sum()),
                            "difference": interval.mean,
                            "low": interval.low,
                            "high": interval.high,
                            "relative": interval.mean / before if before else None,
                        }
                    )
        return found

    def worst(self) -> list[dict[str, Any]]:
        """The queries whose passage the pair ranks lowest, names as they are."""
        ranking, questions = self.rankings[NAMED][PAIR], self.questions[NAMED]
        return [
            {
                "rank": float(ranking.rank_Q[number]),
                "style": questions.rows[number].style,
                "query": questions.rows[number].query[:200],
                "right": f"{questions.rows[number].package} {questions.rows[number].symbol}",
                "found": questions.passages[int(ranking.best_wrong_Q[number])].partition("\n")[0][:120],
            }
            for number in np.argsort(-ranking.rank_Q, kind="stable")[:_WORST].tolist()
        ]

    def _slices(self, condition: str, system: str) -> dict[str, dict[str, float]]:
        ranking = self.rankings[condition][system]
        return {
            name: {"queries": int(chosen_Q.sum()), **ranking.summary(chosen_Q)}
            for name, chosen_Q in self.questions[condition].slices().items()
        }

    def recall_curve(self, condition: str, system: str) -> list[float]:
        """recall@1 to recall@50."""
        ranking = self.rankings[condition][system]
        return [float(ranking.found(at).mean()) for at in range(1, RECALL_AT[-1] + 1)]


@dataclass(frozen=True)
class _Embedded:
    """One system's vectors: queries and passages of each condition, and the first hard negative of each row."""

    queries: dict[str, Vectors]
    passages: dict[str, Vectors]
    negatives: Vectors


def evaluate(
    request: EvaluationRequest, on_step: OnStep = lambda step: None, *, live: Opponent | None = None
) -> Evaluation:
    """Ask every system.

    Args:
        request: What to evaluate on what.
        on_step: Told about each stage.
        live: The live space, which is asked, too; None for none.

    Raises:
        TrainingError: The data cannot be read or has too few rows, or an encoder gives no finite vector.
        ExportError: A checkpoint does not fit its spec.
        ClientError: The gateway refuses, or cannot be reached.
    """
    device = choose_device(request.device)
    rows = draw_rows(load_rows(request.data, request.split), request.limit, request.seed)
    questions = {condition: ask(rows, condition) for condition in CONDITIONS}
    named = questions[NAMED].rows
    systems = _embed(request, device, questions, named, on_step)
    if live is not None:
        systems[LIVE] = _ask_live(live, questions, named, on_step)
    rankings: dict[str, dict[str, Ranking]] = {}
    for condition, asked in questions.items():
        rankings[condition] = {
            name: rank_vectors(one.queries[condition], one.passages[condition], asked.right_Q)
            for name, one in systems.items()
        }
        on_step(f"BM25, names {condition}")
        scores_QP = bm25_scores([row.query for row in asked.rows], asked.passages)
        rankings[condition][BM25] = rank_scores(scores_QP, asked.right_Q)
    facts = {
        "encoders": [request.code.name, request.text.name],
        "data_sha256": data_digest(request.data),
        "split": request.split,
        "precision": request.precision,
        "packages": len({row.package for row in rows}),
        "queries": {condition: len(asked.rows) for condition, asked in questions.items()},
        "passages": {condition: len(asked.passages) for condition, asked in questions.items()},
    }
    if live is not None:
        facts["live_space"] = live.name
    spread = {name: _spread(one, questions[NAMED]) for name, one in systems.items()}
    return Evaluation(facts, rankings, questions, spread)


def _embed(
    request: EvaluationRequest,
    device: torch.device,
    questions: dict[str, Questions],
    named: Sequence[Row],
    on_step: OnStep,
) -> dict[str, _Embedded]:
    def run(spec: EncoderSpec, folder: Path | None, name: str) -> _Embedded:
        encoder = TextEncoder(spec, folder, precision=request.precision, device=device)
        embedded = {}
        for condition, asked in questions.items():
            on_step(f"{name}, names {condition}")
            embedded[condition] = encoder.encode(asked.passages, spec.passage)
        on_step(f"{name}, queries")
        queries = {
            condition: encoder.encode([row.query for row in asked.rows], spec.query)
            for condition, asked in questions.items()
        }
        on_step(f"{name}, negatives")
        return _Embedded(queries, embedded, encoder.encode(_negatives(named), spec.passage))

    code = run(request.code, request.code_checkpoint, CODE)
    text = run(request.text, request.text_checkpoint, TEXT)
    base = run(request.code.untrained, request.code_base, BASE)
    if request.code_base or request.text_base or not _one_base(request.code, request.text):
        base = _joined(base, run(request.text.untrained, request.text_base, BASE))
    return {PAIR: _joined(code, text), CODE: code, TEXT: text, BASE: base}


def _negatives(rows: Sequence[Row]) -> list[str]:
    return [row.negatives[0] for row in rows if row.negatives]


def _ask_live(live: Opponent, questions: dict[str, Questions], named: Sequence[Row], on_step: OnStep) -> _Embedded:
    def embed(texts: Sequence[str], kind: Literal["query", "passage"]) -> Vectors:
        halves = live.embed(texts, kind, on_step)
        return join(halves["code"], halves["text"])

    negatives = _negatives(named)
    passages = {condition: embed(asked.passages, "passage") for condition, asked in questions.items()}
    queries = {condition: embed([row.query for row in asked.rows], "query") for condition, asked in questions.items()}
    return _Embedded(queries, passages, embed(negatives, "passage") if negatives else np.empty((0, 1), np.float32))


def _one_base(code: EncoderSpec, text: EncoderSpec) -> bool:
    """Whether both encoders are one model before training, but for heads that keep its cosines."""
    same = (code.source, code.pooling, code.max_tokens, code.query.prompt, code.passage.prompt) == (
        (text.source, text.pooling, text.max_tokens, text.query.prompt, text.passage.prompt)
    )
    untrained = (one.untrained.lora for one in (code, text))
    return same and all(lora is None or not lora.trained for lora in untrained)


def _joined(code: _Embedded, text: _Embedded) -> _Embedded:
    return _Embedded(
        {name: join(code.queries[name], text.queries[name]) for name in CONDITIONS},
        {name: join(code.passages[name], text.passages[name]) for name in CONDITIONS},
        join(code.negatives, text.negatives),
    )


def _spread(one: _Embedded, asked: Questions) -> dict[str, float]:
    queries_QD, right_QD = one.queries[NAMED], one.passages[NAMED][asked.right_Q]
    spread = {"alignment": alignment(queries_QD, right_QD), "uniformity": uniformity(one.passages[NAMED])}
    has_Q = np.array([bool(row.negatives) for row in asked.rows])
    if has_Q.any():
        spread["triplet_accuracy"] = triplet_accuracy(queries_QD[has_Q], right_QD[has_Q], one.negatives)
    return spread
