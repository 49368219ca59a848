"""The gate: proves that an exported model is the same model, and that it is still as good.

Numbers are compared with fp32 torch of the same, possibly pruned, encoder: that proves the export. Search is compared
with the encoder as its checkpoint has it, neither pruned nor quantized: that proves the quality.

Shapes: N rows, D dimension.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.deployment import TOKEN_BUDGET, buckets_up_to, plan_deployment
from export.encoder import BuildOptions, effective_spec
from export.errors import ExportError
from export.gate import metrics
from export.gate.checks import failures_of
from export.gate.metrics import Cosines, cosines_of
from export.gate.reference import Reference, Vectors, built_vectors
from export.gate.report import (
    GateReport,
    InvarianceResult,
    Quality,
    QueryResult,
    RetrievalResult,
    ShapeResult,
)
from export.gate.rows import Batch, PublishedTokenizer, Row, RowMaker, pad
from export.gate.samples import Pair, retrieval_pairs
from export.gate.sessions import open_exported
from export.gate.settings import GateSettings
from export.gate.tolerances import tolerance_of
from export.python_backend.host import OUTPUT, Session, group_by_length, padded_width
from export.serving import Serving
from export.source import Checkpoint
from export.spec import EncoderSpec

OnStep = Callable[[str], None]

NEIGHBOURS = 63
WORST = 10


class GateFailure(ExportError):
    """An exported model is out of tolerance; the line names the shape or the query, `report` holds all figures."""

    def __init__(self, message: str, report: GateReport) -> None:
        super().__init__(message)
        self.report = report


def run_gate(
    spec: EncoderSpec,
    checkpoint: Checkpoint,
    folder: Path,
    serving: Serving,
    *,
    options: BuildOptions | None = None,
    settings: GateSettings | None = None,
    on_step: OnStep = lambda step: None,
) -> GateReport:
    """Measure an exported model, and refuse it when it is out of tolerance.

    Holds one model in memory at a time: let go of the torch encoder before.

    Args:
        spec: The encoder as its file states it.
        checkpoint: The weights that it was exported from.
        folder: Version folder with the exported model and its tokenizer.json.
        serving: How it will be run.
        options: What it was built with.
        settings: How much to measure.
        on_step: Told about each stage.

    Returns:
        The report of a model that passed, with its canary.

    Raises:
        GateFailure: It is out of tolerance.
        ExportError: The published tokenizer differs from the checkpoint's, or the runtime cannot be had here.
    """
    report = measure(spec, checkpoint, folder, serving, options=options, settings=settings, on_step=on_step)
    if report.failures:
        more = f" (and {len(report.failures) - 1} more)" if len(report.failures) > 1 else ""
        raise GateFailure(f"{spec.name} in {serving.runtime} {serving.precision}: {report.failures[0]}{more}", report)
    return report


def measure(
    spec: EncoderSpec,
    checkpoint: Checkpoint,
    folder: Path,
    serving: Serving,
    *,
    options: BuildOptions | None = None,
    settings: GateSettings | None = None,
    on_step: OnStep = lambda step: None,
) -> GateReport:
    """What `run_gate` measures, with its verdict in `failures` instead of raised.

    Raises:
        ExportError: The published tokenizer differs from the checkpoint's, or the runtime cannot be had here.
    """
    started = time.monotonic()
    options, settings = options or BuildOptions(), settings or GateSettings()
    built = effective_spec(spec, options)
    pairs = retrieval_pairs(settings.pairs)
    maker = RowMaker(built, PublishedTokenizer(folder / "tokenizer.json", built))
    # An engine takes no more rows than it was built for.
    largest_batch = plan_deployment(built, serving).max_batch_size
    batches = maker.batches(settings.longest_bucket, largest_batch)
    neighbours = maker.neighbours(min(NEIGHBOURS + 1, largest_batch))
    queries, passages = maker.pair_rows(pairs)
    rows = [row for batch in batches for row in batch.rows]

    reference = Reference(spec, checkpoint, options.merge_task)
    on_step("compare token ids")
    compare_tokens(spec, reference, [*rows, *queries, *passages, *maker.unusual_rows()])
    expected_ND = reference.vectors([*queries, *passages, *([] if options.prunes else rows)], on_step)
    searched_ND, exact_ND = expected_ND[: 2 * len(pairs)], expected_ND[2 * len(pairs) :]
    if options.prunes:
        exact_ND = built_vectors(spec, checkpoint, options, rows, on_step)

    on_step(f"load the model in {serving.runtime} {serving.precision}")
    exported = _Exported(built, open_exported(folder, serving), serving, largest_batch)
    shapes = []
    for batch in batches:
        on_step(f"compare shapes, batch {len(batch.rows)} at length {batch.length}")
        expected, exact_ND = exact_ND[: len(batch.rows)], exact_ND[len(batch.rows) :]
        shapes.append(_compare(batch, exported.batch(batch), expected))
    on_step("compare a row alone with the same row among others")
    invariance = _invariance(exported, neighbours)
    given_ND = exported.rows([*queries, *passages], on_step)
    report = GateReport(
        encoder=spec.name,
        runtime=serving.runtime,
        precision=serving.precision,
        pruned=options.prunes,
        reference=reference.name,
        tolerance=tolerance_of(serving.precision, pruned=options.prunes),
        buckets=tuple(dict.fromkeys(batch.length for batch in batches)),
        skipped_buckets=tuple(buckets_up_to(spec.max_tokens)[len({batch.length for batch in batches}) :]),
        compared_texts=len(rows) + 2 * len(pairs),
        shapes=tuple(shapes),
        invariance=invariance,
        retrieval=_retrieval(pairs, searched_ND, given_ND),
        seconds=round(time.monotonic() - started, 1),
        canary=_canary(built, passages[0], exported.together(passages[:1])[0]),
    )
    return replace(report, failures=failures_of(report))


def compare_tokens(spec: EncoderSpec, reference: Reference, rows: Sequence[Row]) -> None:
    """Compare the published tokenizer with transformers' one, id by id.

    Raises:
        ExportError: They differ; the message names the text and the position.
    """
    for row in rows:
        expected = reference.token_ids(row.text, row.limit)
        if row.ids != expected:
            same = zip(row.ids, expected, strict=False)
            position = next(
                (at for at, (one, other) in enumerate(same) if one != other), min(len(row.ids), len(expected))
            )
            raise ExportError(
                f"{spec.name}: tokenizer.json gives other ids than transformers' tokenizer of the checkpoint for "
                f"{_quote(row.text)} at {row.limit} tokens: {_ids_at(row.ids, position)} instead of "
                f"{_ids_at(expected, position)} at position {position}; check append_eos and the checkpoint's tokenizer"
            )


class _Exported:
    """The exported model behind its runtime."""

    def __init__(self, spec: EncoderSpec, session: Session, serving: Serving, largest_batch: int) -> None:
        self._spec = spec
        self._session = session
        self._length_buckets = plan_deployment(spec, serving).length_buckets
        self._largest_batch = largest_batch

    def batch(self, batch: Batch) -> Vectors:
        """Vectors (N, D) of rows padded together."""
        vectors_ND = self._session.run(pad(batch.rows, batch.length, has_tasks=bool(self._spec.tasks)))
        expected = (len(batch.rows), self._spec.dimension)
        if vectors_ND.shape != expected:
            raise ExportError(
                f"{self._spec.name}: {OUTPUT} is {vectors_ND.shape} instead of {expected} at batch {len(batch.rows)}, "
                f"length {batch.length}"
            )
        return vectors_ND.astype(np.float64)

    def together(self, rows: Sequence[Row]) -> Vectors:
        """Vectors (N, D) of one micro-batch, as wide as it is served: in int8 another width gives other vectors."""
        longest = max(len(row.ids) for row in rows)
        if self._length_buckets:
            width = self._length_buckets[bisect_left(self._length_buckets, longest)]
        else:
            width = min(padded_width(longest), self._spec.max_tokens)
        return self.batch(Batch(width, tuple(rows)))

    def rows(self, rows: Sequence[Row], on_step: OnStep) -> Vectors:
        """Vectors (N, D) of rows in the micro-batches that serve them."""
        vectors_ND = np.empty((len(rows), self._spec.dimension))
        done = 0
        for group in group_by_length(np.array([len(row.ids) for row in rows]), TOKEN_BUDGET):
            for start in range(0, len(group), self._largest_batch):
                on_step(f"search, row {done} of {len(rows)}")
                chosen = group[start : start + self._largest_batch]
                vectors_ND[chosen] = self.together([rows[index] for index in chosen.tolist()])
                done += len(chosen)
        return vectors_ND


def _compare(batch: Batch, given_ND: Vectors, expected_ND: Vectors) -> ShapeResult:
    return ShapeResult(
        batch=len(batch.rows),
        length=batch.length,
        cosines=Cosines.of(cosines_of(given_ND, expected_ND)),
        max_abs_difference=float(np.abs(given_ND - expected_ND).max()),
        max_norm_error=float(np.abs(np.linalg.norm(given_ND, axis=1) - 1.0).max()),
    )


def _invariance(exported: _Exported, neighbours: Batch) -> InvarianceResult:
    together_ND = exported.batch(neighbours)
    alone_ND = np.concatenate([exported.together([row]) for row in neighbours.rows])
    distances_N = 1.0 - cosines_of(alone_ND, together_ND)
    worst = int(np.argmax(distances_N))  # NaN counts as the largest
    return InvarianceResult(
        len(neighbours.rows), neighbours.length, float(distances_N[worst]), len(neighbours.rows[worst].ids)
    )


def _retrieval(pairs: Sequence[Pair], reference_ND: Vectors, exported_ND: Vectors) -> RetrievalResult:
    count = len(pairs)
    reference, exported = (reference_ND[:count], reference_ND[count:]), (exported_ND[:count], exported_ND[count:])
    before_Q, after_Q = metrics.ranks_of(*reference), metrics.ranks_of(*exported)
    overlaps_Q = metrics.overlaps_of(*exported, *reference)
    fall_Q = 1.0 / before_Q - 1.0 / after_Q
    worst = np.lexsort((overlaps_Q, -fall_Q))[:WORST].tolist()
    return RetrievalResult(
        pairs=count,
        overlap_at_10=float(overlaps_Q.mean()),
        reference=_quality(before_Q),
        exported=_quality(after_Q),
        queries=Cosines.of(cosines_of(exported[0], reference[0])),
        passages=Cosines.of(cosines_of(exported[1], reference[1])),
        worst=tuple(
            QueryResult(
                pairs[index].query,
                pairs[index].name,
                int(before_Q[index]),
                int(after_Q[index]),
                float(overlaps_Q[index]),
            )
            for index in worst
        ),
    )


def _quality(ranks_Q: NDArray[np.int64]) -> Quality:
    bands = np.histogram(ranks_Q, bins=[1, 2, 4, 11, np.iinfo(np.int64).max])[0]
    return Quality(metrics.mrr(ranks_Q), metrics.ndcg(ranks_Q), tuple(map(int, bands)))


def _canary(spec: EncoderSpec, row: Row, vector_D: NDArray[np.float64]) -> dict[str, object]:
    return {
        "input_ids": list(row.ids),
        "task_id": row.task if spec.tasks else None,
        "vector": vector_D.tolist(),
    }


def _quote(text: str) -> str:
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= 60 else f"{flat[:60]}…")


def _ids_at(ids: Sequence[int], position: int) -> str:
    return str(ids[position]) if position < len(ids) else "the end"
