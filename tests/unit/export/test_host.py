"""Micro-batches: every row once, under the budget, back in order; bad requests refused one by one."""

import json
import struct
import sys
import types
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small_encoder import build_small, vector_of, write_graph

from export.python_backend import host
from export.python_backend.host import EncoderHost, HostError, Limits, Rows, check_rows, group_by_length
from export.repository import EncoderFolder

LIMITS = Limits(max_tokens=512, vocab_size=1000, task_count=2)


class EchoSession:
    """Answers (first token, real tokens, task) per row, and records the shapes it was given."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, feeds: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """See `Session.run`."""
        self.shapes.append(feeds["input_ids"].shape)
        lengths = feeds["attention_mask"].sum(axis=1)
        columns = [feeds["input_ids"][:, 0], lengths, feeds["task_id"][:, 0]]
        return np.stack(columns, axis=1).astype(np.float32)


def rows(lengths: list[int], *, first: int, task: int, padding: int = 0) -> Rows:
    """A right-padded request whose rows start with `first`, `first + 1`, …"""
    lengths_B = np.array(lengths)
    mask_BS = (np.arange(max(lengths) + padding) < lengths_B[:, None]).astype(np.int64)
    ids_BS = mask_BS * (first + np.arange(len(lengths)))[:, None]
    return check_rows(ids_BS, mask_BS, np.full((len(lengths), 1), task), LIMITS)


@pytest.mark.parametrize("seed", range(20))
def test_groups_hold_every_row_once_under_the_budget(seed: int) -> None:
    """Random lengths: nothing lost, nothing twice, no group over the budget unless it is one row."""
    rng = np.random.default_rng(seed)
    lengths_B = rng.integers(1, 700, size=rng.integers(1, 80))
    groups = group_by_length(lengths_B, 512)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths_B)))
    for group in groups:
        assert len(group) == 1 or len(group) * lengths_B[group].max() <= 512
    assert np.all(np.diff(np.concatenate([lengths_B[group] for group in groups])) >= 0)


def test_groups_are_as_full_as_the_budget_allows() -> None:
    """Sixteen rows of 64 tokens are two groups of 512 tokens."""
    assert [len(group) for group in group_by_length(np.full(16, 64), 512)] == [8, 8]
    assert group_by_length(np.array([], dtype=np.int64), 512) == []


def test_rows_come_back_in_order_to_their_own_request() -> None:
    """Rows of three requests are mixed by length and unmixed again."""
    session = EchoSession()
    requests = [
        rows([300, 2, 90], first=10, task=0),
        rows([5], first=20, task=1, padding=40),
        rows([90, 91], first=30, task=1),
    ]
    answers = EncoderHost(session, LIMITS, 3, 512).embed(requests)
    assert [answer.tolist() for answer in answers] == [
        [[10, 300, 0], [11, 2, 0], [12, 90, 0]],
        [[20, 5, 1]],
        [[30, 90, 1], [31, 91, 1]],
    ]
    # The padding of the second request is gone, but for what makes shapes few.
    assert session.shapes == [(5, 96), (1, 304)]


def test_wrong_output_shape_is_refused() -> None:
    """A graph of another dimension never reaches a caller."""
    with pytest.raises(HostError, match=r"gave \(1, 3\) instead of \(1, 4\)"):
        EncoderHost(EchoSession(), LIMITS, 4, 512).embed([rows([3], first=1, task=0)])


@pytest.mark.parametrize(
    ("ids", "mask", "task", "message"),
    [
        ([[1, 2]], [[0, 1]], [[0]], "padded on the right"),
        ([[1, 2]], [[2, 0]], [[0]], "padded on the right"),
        ([[1, 2]], [[0, 0]], [[0]], "at least one token"),
        ([[1, 2]], [[1]], [[0]], "must be the same"),
        ([[1, 1000]], [[1, 1]], [[0]], "token ids must lie in 0 to 999"),
        ([[1, -1]], [[1, 1]], [[0]], "token ids must lie in 0 to 999"),
        ([[1, 2]], [[1, 1]], [[2]], "task_id must lie in 0 to 1"),
        ([[1, 2]], [[1, 1]], [[0], [1]], "task_id must be int64 of shape"),
        ([[1] * 513], [[1] * 513], [[0]], "a row has 513 tokens, the limit is 512"),
    ],
)
def test_bad_request_is_refused_with_its_reason(ids: Any, mask: Any, task: Any, message: str) -> None:
    """Nothing that a runtime would read as zeros gets through."""
    with pytest.raises(HostError, match=message):
        check_rows(np.array(ids), np.array(mask), np.array(task), LIMITS)


def test_other_dtype_is_refused() -> None:
    """int32 ids are not converted silently."""
    one = np.ones((1, 2), dtype=np.int32)
    with pytest.raises(HostError, match="must be int64, not int32 and int32"):
        check_rows(one, one, None, LIMITS)


def test_unknown_runtime_and_precision_are_refused(tmp_path: Path) -> None:
    """No silent change of precision: it would be another space."""
    write_graph(tmp_path / "model.onnx", seed=1)
    with pytest.raises(HostError, match="unknown runtime 'torch'"):
        host.open_session("torch", tmp_path / "model.onnx", "fp32", 1)
    with pytest.raises(HostError, match="onnxruntime runs fp32, fp16, int8 on CPU, not 'bf16'"):
        host.open_session("onnxruntime", tmp_path / "model.onnx", "bf16", 1)
    with pytest.raises(HostError, match="openvino runs fp32, bf16, int8, int8-bf16, not 'fp16'"):
        host.open_session("openvino", tmp_path / "model.onnx", "fp16", 1)


def test_few_widths_hold_every_row_and_short_rows_are_padded_by_little() -> None:
    """A micro-batch of identifiers would be half padding in the steps of real code."""
    widths = [host.padded_width(length) for length in range(1, 513)]
    assert all(length <= width < length + 16 for length, width in enumerate(widths, 1))
    assert sorted(set(widths)) == [8, 16, 24, *range(32, 513, 16)]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_version_runs_as_its_own_manifest_says(tmp_path: Path, runtime: str) -> None:
    """Runtime and precision come from the version folder; the vector is numpy's."""
    version = build_small(EncoderFolder(tmp_path, "small-code"), seed=5, changes={"runtime": runtime})
    # The version takes 64 tokens: a longer row is not warmed up, but it must not keep the version from loading either.
    encoder = host.open_host(version.folder, num_threads=1, token_budget=512, warmup_lengths=[512, 64, 1])
    row = np.array([[3, 1, 4, 1, 5]])
    (vectors,) = encoder.embed([check_rows(row, np.ones_like(row), None, encoder.limits)])
    np.testing.assert_allclose(vectors[0], vector_of(5, [3, 1, 4, 1, 5]), atol=1e-6)


def test_openvino_keeps_to_its_threads_and_to_no_core(tmp_path: Path) -> None:
    """Two encoders share the machine, each in processes of its own, and every process would pin itself to the same."""
    write_graph(tmp_path / "model.onnx", seed=1)
    session: Any = host.open_session("openvino", tmp_path / "model.onnx", "fp32", 1)
    compiled = session._request.get_compiled_model()
    told = [compiled.get_property(name) for name in ("INFERENCE_NUM_THREADS", "NUM_STREAMS", "ENABLE_CPU_PINNING")]
    assert told == [1, 1, False]


def test_a_version_that_gives_no_numbers_does_not_load(tmp_path: Path) -> None:
    """The first rows run while it loads: a failure there leaves the old version serving."""
    version = build_small(EncoderFolder(tmp_path, "small-code"), seed=None)
    with pytest.raises(HostError, match="values that are not finite for a row of 16 tokens"):
        host.open_host(version.folder, num_threads=1, token_budget=512, warmup_lengths=[16, 1])


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
def test_changed_model_file_is_not_loaded(tmp_path: Path, name: str) -> None:
    """The digests in the manifest are checked at every start, those of external data too."""
    version = build_small(EncoderFolder(tmp_path, "small-code"), seed=1)
    files = {**version.manifest["files"], name: "0" * 64}
    (version.folder / "model.onnx.data").touch()
    (version.folder / "manifest.json").write_text(json.dumps({**version.manifest, "files": files}), encoding="utf-8")
    with pytest.raises(HostError, match=rf"{name} is not the published file; publish the encoder again"):
        host.open_host(version.folder, num_threads=1, token_budget=512)


def test_a_manifest_that_says_too_little_is_refused(tmp_path: Path) -> None:
    """One line, which names the folder."""
    (tmp_path / "manifest.json").write_text('{"files": {}}', encoding="utf-8")
    with pytest.raises(HostError, match=rf"cannot read the version {tmp_path}: KeyError\('spec'\)"):
        host.open_host(tmp_path, num_threads=1, token_budget=512)


class StubTensor:
    """Stands in for `pb_utils.Tensor`."""

    def __init__(self, name: str, array: NDArray[Any]) -> None:
        self.name = name
        self.array = array

    def as_numpy(self) -> NDArray[Any]:
        """The array."""
        return self.array


class StubError:
    """Stands in for `pb_utils.TritonError`."""

    INTERNAL = 1
    INVALID_ARG = 3

    def __init__(self, message: str, code: int) -> None:
        self.message = message
        self.code = code


@pytest.fixture
def triton_model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A loaded `TritonPythonModel` over the echo session, with Triton's module stubbed."""
    stub: Any = types.ModuleType("triton_python_backend_utils")
    stub.Tensor = StubTensor
    stub.TritonError = StubError
    stub.InferenceResponse = lambda output_tensors, error=None: types.SimpleNamespace(out=output_tensors, error=error)
    stub.get_input_tensor_by_name = lambda request, name: request.get(name)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stub)
    monkeypatch.delitem(sys.modules, "export.python_backend.model", raising=False)
    from export.python_backend.model import TritonPythonModel

    model = TritonPythonModel()
    model._host = EncoderHost(EchoSession(), LIMITS, 3, 512)
    model._names_rows = False
    yield model
    sys.modules.pop("export.python_backend.model", None)


def request_of(ids: list[list[int]], mask: list[list[int]]) -> dict[str, StubTensor]:
    """What Triton hands to `execute`."""
    task = np.zeros((len(ids), 1), dtype=np.int64)
    arrays = {"input_ids": np.array(ids), "attention_mask": np.array(mask), "task_id": task}
    return {name: StubTensor(name, array) for name, array in arrays.items()}


def test_a_bad_request_fails_alone(triton_model: Any) -> None:
    """Its neighbours in the batch are answered, in order."""
    incomplete = request_of([[9]], [[1]])
    del incomplete["task_id"]
    requests = [request_of([[7, 8]], [[1, 1]]), request_of([[1, 2]], [[0, 1]]), incomplete, request_of([[5]], [[1]])]
    first, left_padded, without_task, last = triton_model.execute(requests)
    assert first.error is None and first.out[0].array.tolist() == [[7, 2, 0]]
    assert last.error is None and last.out[0].array.tolist() == [[5, 1, 0]]
    assert (left_padded.error.code, left_padded.error.message) == (
        StubError.INVALID_ARG,
        "attention_mask must be ones, then zeros: rows are padded on the right",
    )
    assert without_task.error.message == "input task_id is missing"


def test_an_answer_says_of_which_rows_it_is(triton_model: Any) -> None:
    """By their ids and their task, whatever they are padded to; where the configuration has the output."""
    triton_model._names_rows = True
    asked = [request_of([[7, 8, 0]], [[1, 1, 0]]), request_of([[5], [9]], [[1], [1]])]
    asked[1]["task_id"].array[1] = 1
    first, second = (response.out[1] for response in triton_model.execute(asked))
    assert (first.name, first.array.dtype) == ("row_digest", np.int64)
    assert first.array.tolist() == [[zlib.crc32(struct.pack("<2q", 7, 8))]]
    assert second.array.tolist() == [[zlib.crc32(struct.pack("<q", 5))], [zlib.crc32(struct.pack("<q", 9), 1)]]


def test_value_that_is_not_finite_is_an_error(triton_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN is never an answer."""
    monkeypatch.setattr(triton_model._host._session, "run", lambda feeds: np.full((1, 3), np.nan, np.float32))
    (response,) = triton_model.execute([request_of([[7]], [[1]])])
    assert response.out == []
    assert response.error.code == StubError.INTERNAL
    assert response.error.message == "the encoder gave a value that is not finite"
