"""The gate passes a right graph, refuses a wrong one, and names the shape or the query that broke it."""

import dataclasses
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from export.adapters import Adapters, save_adapters
from export.build import BuildRequest
from export.deployment import TOKEN_BUDGET
from export.encoder import BuildOptions, Encoder, build_encoder
from export.errors import ExportError
from export.gate import gate
from export.gate.checks import failures_of
from export.gate.gate import GateFailure, measure, run_gate
from export.gate.reference import Reference
from export.gate.report import GateReport, Quality
from export.gate.rows import Row
from export.gate.sessions import open_exported
from export.gate.settings import GateSettings
from export.gate.tolerances import TOLERANCES
from export.onnx_export import export_onnx
from export.python_backend.host import EncoderHost, Limits, check_rows, open_session
from export.repository import EncoderFolder
from export.serving import Precision, Runtime, Serving
from export.source import Checkpoint, write_tokenizer
from export.spec import EncoderSpec

FP32 = Serving(Runtime.ONNXRUNTIME, Precision.FP32, 1)
FEW = GateSettings(longest_bucket=32, pairs=20)


_seen: dict[tuple[object, ...], NDArray[np.float64]] = {}


@pytest.fixture(autouse=True)
def little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """For speed: the reference of the same rows and weights is computed once, and a row has 15 neighbours, not 63."""
    compute = Reference.vectors

    def vectors(self: Reference, rows: list[Row], on_step: Any = None) -> NDArray[np.float64]:
        key = (self._checkpoint.folder, self._checkpoint.adapters_folder, *rows)
        if key not in _seen:
            _seen[key] = compute(self, rows)
        return _seen[key]

    monkeypatch.setattr(Reference, "vectors", vectors)
    monkeypatch.setattr(gate, "NEIGHBOURS", 15)


@pytest.fixture(scope="module")
def report(text_spec: EncoderSpec, checkpoint: Checkpoint, exported: Path) -> GateReport:
    """A right graph's."""
    return run_gate(text_spec, checkpoint, exported, FP32, settings=FEW)


def test_right_graph_passes_in_numbers(report: GateReport) -> None:
    """fp32 in onnxruntime is fp32 in torch, in every figure."""
    assert report.passed
    assert (report.buckets, report.skipped_buckets) == ((16, 32), (64, 128, 256, 512))
    assert [(shape.batch, shape.length) for shape in report.shapes] == [(1, 16), (32, 16), (1, 32), (32, 32)]
    assert report.min_cosine > 0.9999999
    assert report.max_abs_difference < 1e-5
    assert report.invariance.rows == 64
    assert report.invariance.max_distance < 1e-6
    assert report.retrieval.overlap_at_10 == 1.0
    assert report.retrieval.exported == report.retrieval.reference
    assert 0.5 < report.retrieval.reference.mrr_at_10 <= 1.0
    assert sum(report.retrieval.reference.rank_counts) == 20
    assert report.compared_texts == 66 + 40


def test_canary_is_a_real_row_and_its_vector(report: GateReport, exported: Path) -> None:
    """What the smoke test will compare with: the host gives it again, to the last bit, for the row by itself."""
    canary = report.canary
    ids = np.array([canary["input_ids"]], dtype=np.int64)
    session = open_session("onnxruntime", exported / "model.onnx", "fp32", FP32.num_threads)
    limits = Limits(max_tokens=512, vocab_size=10**6, task_count=2)
    host = EncoderHost(session, limits, len(canary["vector"]), TOKEN_BUDGET)
    rows = check_rows(ids, np.ones_like(ids), np.array([[canary["task_id"]]]), limits)
    np.testing.assert_array_equal(canary["vector"], host.embed([rows])[0][0].astype(np.float64))
    assert ids.shape[1] > 10 and canary["task_id"] == 1
    assert "canary" not in report.as_dict()


@pytest.mark.parametrize(("runtime", "width"), [(Runtime.OPENVINO, 24), (Runtime.ONNXRUNTIME_CUDA, 32)])
def test_rows_are_as_wide_as_they_are_served(text_spec: EncoderSpec, runtime: Runtime, width: int) -> None:
    """int8 gives a row another vector at another width, and each is asked for again."""
    shapes = []

    class Recorder:
        def run(self, feeds: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
            shapes.append(feeds["input_ids"].shape)
            return np.zeros((1, text_spec.dimension), dtype=np.float32)

    row = Row("text", 512, 0, tuple(range(17)))
    exported = gate._Exported(text_spec, Recorder(), Serving(runtime, Precision.FP32, 1), 64)
    exported.together([row])
    exported.rows([row], lambda step: None)
    assert shapes == [(1, width)] * 2


def test_report_survives_the_manifest(report: GateReport) -> None:
    """Written as JSON and read again, NaN included."""
    broken = dataclasses.replace(
        report, shapes=(dataclasses.replace(report.shapes[0], max_abs_difference=math.nan), *report.shapes[1:])
    )
    for one in (report, broken):
        stored = json.loads(json.dumps(one.as_dict(), allow_nan=False))
        again = GateReport.from_dict(stored)
        assert again.as_dict() == stored
        assert again.retrieval.worst == one.retrieval.worst
    assert math.isnan(again.max_abs_difference)


def test_wrong_pooling_is_refused_by_its_shape(
    small_candidate: tuple[EncoderFolder, BuildRequest, Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First-token pooling agrees at no shape; the error carries the report."""
    _, request, checkpoint = small_candidate

    def first_token(self: Encoder, hidden_BSH: Tensor, attention_mask: Tensor) -> Tensor:
        return hidden_BSH[:, 0]

    monkeypatch.setattr(Encoder, "pool", first_token)
    encoder, _ = build_encoder(request.spec, checkpoint)
    export_onnx(encoder, request.spec, tmp_path)
    write_tokenizer(checkpoint, tmp_path / "tokenizer.json")
    with pytest.raises(
        GateFailure, match=r"small-text in onnxruntime fp32: a vector differs .* at batch 1, length 16: cosine 0\.\d+"
    ) as failure:
        run_gate(request.spec, checkpoint, tmp_path, FP32, settings=FEW)
    assert not failure.value.report.passed
    assert failure.value.report.min_cosine < 0.99
    assert "\n" not in str(failure.value)


def test_adapters_that_the_graph_lacks_are_noticed(
    text_spec: EncoderSpec, checkpoint: Checkpoint, random_adapters: Adapters, exported: Path, tmp_path: Path
) -> None:
    """The reference merges the checkpoint's adapters itself, so a graph without them fails at once."""
    save_adapters(random_adapters, tmp_path / "adapters.safetensors")
    trained = dataclasses.replace(checkpoint, adapters_folder=tmp_path)
    with pytest.raises(GateFailure, match="a vector differs from transformers .* at batch 1, length 16"):
        run_gate(text_spec, trained, exported, FP32, settings=FEW)


def test_pruned_graph_is_proven_against_itself_and_judged_against_the_whole(
    text_spec: EncoderSpec, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """The export of four layers of six is right to seven digits, and the model is no longer as good."""
    options = BuildOptions(drop_layers=2)
    encoder, _ = build_encoder(text_spec, checkpoint, options)
    export_onnx(encoder, text_spec, tmp_path)
    write_tokenizer(checkpoint, tmp_path / "tokenizer.json")
    with pytest.raises(GateFailure, match=r"nDCG@10 falls|MRR@10 falls") as failure:
        run_gate(text_spec, checkpoint, tmp_path, FP32, options=options, settings=FEW)
    found = failure.value.report
    assert found.pruned and found.min_cosine > 0.9999999
    assert found.retrieval.passages.mean < 0.99


def test_another_tokenizer_is_refused_by_text_and_position(
    text_spec: EncoderSpec, checkpoint: Checkpoint, exported: Path, tmp_path: Path
) -> None:
    """The published file must give the ids of the checkpoint; here it keeps capitals, which the base lowers."""
    shutil.copy(exported / "model.onnx", tmp_path)
    table = json.loads((exported / "tokenizer.json").read_text())
    table["normalizer"]["lowercase"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(table))
    with pytest.raises(ExportError, match=r"tokenizer\.json gives other ids .* for '.*' at \d+ tokens: \d+ instead of"):
        run_gate(text_spec, checkpoint, tmp_path, FP32, settings=FEW)


class _Spoiled:
    """A real session whose vectors are changed on the way out."""

    def __init__(self, session: Any, change: Any) -> None:
        self._session = session
        self._change = change

    def run(self, feeds: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """See `Session.run`."""
        vectors: NDArray[np.float32] = self._change(self._session.run(feeds).copy(), feeds)
        return vectors


def spoil(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Put a change between the gate and the real session."""

    def opened(folder: Path, serving: Serving) -> _Spoiled:
        return _Spoiled(open_exported(folder, serving), change)

    monkeypatch.setattr("export.gate.gate.open_exported", opened)


def _not_a_number(vectors: NDArray[np.float32], feeds: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
    if len(vectors) == 32 and feeds["input_ids"].shape[1] == 32:
        vectors[5, 3] = np.nan
    return vectors


def _too_long(vectors: NDArray[np.float32], feeds: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
    return vectors * np.float32(1.01)


def _leaks_between_rows(vectors: NDArray[np.float32], feeds: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
    # Only in the batch of 16 at 128 tokens: no shape that is compared with the reference shows it.
    return vectors + 0.05 * vectors.mean(axis=0) if feeds["input_ids"].shape == (16, 128) else vectors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_not_a_number, r"a vector differs from transformers .* at batch 32, length 32: cosine nan"),
        (_too_long, r"a vector's norm is off by 1\.0e-02 at batch 1, length 16"),
        (_leaks_between_rows, r"a row of \d+ tokens moves by .* cosine distance among 15 others padded to 128"),
    ],
)
def test_broken_vectors_are_refused(
    text_spec: EncoderSpec,
    checkpoint: Checkpoint,
    exported: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Any,
    message: str,
) -> None:
    """Not a number, of another norm, or dependent on batch mates."""
    spoil(monkeypatch, change)
    with pytest.raises(GateFailure, match=message):
        run_gate(text_spec, checkpoint, exported, FP32, settings=FEW)


def test_a_query_that_broke_is_named(report: GateReport) -> None:
    """With the ranks of its code before and after."""
    worst = dataclasses.replace(report.retrieval.worst[0], reference_rank=1, exported_rank=14, overlap=0.3)
    exported = dataclasses.replace(report.retrieval.exported, ndcg_at_10=0.9 * report.retrieval.reference.ndcg_at_10)
    retrieval = dataclasses.replace(
        report.retrieval, overlap_at_10=0.8, exported=exported, worst=(worst, *report.retrieval.worst[1:])
    )
    lines = failures_of(dataclasses.replace(report, retrieval=retrieval))
    assert [line.split(" ")[0] for line in lines] == ["top-10", "nDCG@10"]
    assert f"worst is {worst.query[:80]!r}, whose code {worst.code} went from rank 1 to 14" in lines[0]


@pytest.mark.parametrize("figure", ["overlap_at_10", "mrr_at_10", "ndcg_at_10", "max_distance"])
def test_every_figure_fails_as_nan(report: GateReport, figure: str) -> None:
    """NaN is neither above nor below a limit; each comparison must still refuse it."""
    invariance, retrieval = report.invariance, report.retrieval
    if figure == "max_distance":
        invariance = dataclasses.replace(invariance, max_distance=math.nan)
    elif figure == "overlap_at_10":
        retrieval = dataclasses.replace(retrieval, overlap_at_10=math.nan)
    else:
        figures: dict[str, Any] = {**dataclasses.asdict(retrieval.exported), figure: math.nan}
        retrieval = dataclasses.replace(retrieval, exported=Quality(**figures))
    assert len(failures_of(dataclasses.replace(report, invariance=invariance, retrieval=retrieval))) == 1


def test_tolerances_grow_with_what_a_precision_rounds() -> None:
    """No precision is stricter than one that keeps more bits; none lets a row move further than its canary may."""
    fp32, fp16, bf16, int8 = (
        TOLERANCES[one] for one in (Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8)
    )
    for wide, narrow in ((fp32, fp16), (fp16, bf16), (bf16, int8)):
        assert wide.min_cosine >= narrow.min_cosine > 0.9
        assert wide.max_batch_distance <= narrow.max_batch_distance <= 1e-4
        assert wide.max_ndcg_loss <= narrow.max_ndcg_loss <= 0.03


@pytest.mark.parametrize("runtime", [Runtime.ONNXRUNTIME_CUDA, Runtime.ONNXRUNTIME_TENSORRT])
def test_missing_provider_is_a_clear_error(exported: Path, runtime: Runtime) -> None:
    """A GPU provider that this machine lacks is never replaced by the CPU's in silence."""
    with pytest.raises(ExportError, match=rf"{runtime} can only be proven where onnxruntime has the \w+Provider"):
        open_exported(exported, Serving(runtime, Precision.FP32, 2))


def test_published_tokenizer_neither_cuts_nor_pads(exported: Path) -> None:
    """The base's file cuts at 128; cutting is the gateway's to do, and to report."""
    tokenizer = Tokenizer.from_file(str(exported / "tokenizer.json"))
    assert tokenizer.truncation is None and tokenizer.padding is None
    assert len(tokenizer.encode("x " * 600).ids) == 602
    assert len(tokenizer.encode("x").ids) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"pairs": 5}, "needs 20 retrieval pairs or more, not 5"), ({"longest_bucket": 8}, "must be 16 tokens or more")],
)
def test_settings_that_prove_nothing_are_refused(settings: dict[str, int], message: str) -> None:
    """A gate over five pairs would pass anything."""
    with pytest.raises(ExportError, match=message):
        GateSettings(**settings)


def test_measuring_alone_raises_nothing(
    text_spec: EncoderSpec, checkpoint: Checkpoint, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The benchmark wants the figures of a model that the gate would refuse."""
    spoil(monkeypatch, _too_long)
    found = measure(text_spec, checkpoint, exported, FP32, settings=FEW)
    assert not found.passed and found.min_cosine > 0.9999999
