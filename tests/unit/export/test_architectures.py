"""Both architectures of the full pair, in ONNX, against transformers and PEFT run by themselves."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from peft import PeftModel
from transformers import JinaEmbeddingsV3Model, Qwen2Config, Qwen2Model

from export.encoder import BuildOptions, build_encoder, effective_spec
from export.errors import ExportError
from export.onnx_export import export_onnx
from export.source import open_checkpoint, task_folder
from export.spec import EncoderSpec, load_builtin
from export.transformer import quiet_transformers, set_matmul_precision

QODO = load_builtin("qodo-embed-1-1.5b")
JINA = load_builtin("jina-embeddings-v3")
# The last is compared under the other attention, too.
SHAPES = ((1, 1), (1, 2), (3, 17), (8, 64), (32, 20), (1, 2048), (1, 300))
Ids = NDArray[np.int64]
Vectors = NDArray[np.float64]


def rows(batch: int, length: int) -> tuple[Ids, Ids]:
    """Random right-padded rows of mixed lengths; the first one is full."""
    rng = np.random.default_rng(batch * 10_000 + length)
    lengths = rng.integers(1, length + 1, batch)
    lengths[0] = length
    mask_BS = (np.arange(length) < lengths[:, None]).astype(np.int64)
    return rng.integers(5, 260, (batch, length)) * mask_BS, mask_BS


def unit(pooled: torch.Tensor) -> Vectors:
    """Rows of norm 1, in float64."""
    vectors: Vectors = pooled.double().numpy()
    scaled: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


@functools.cache
def qwen2_model(folder: Path, *, is_causal: bool) -> Any:
    """transformers' Qwen2Model under its own mask."""
    with quiet_transformers():
        config = Qwen2Config.from_pretrained(folder)
        config.is_causal = is_causal
        model: Any = Qwen2Model.from_pretrained(folder, config=config, dtype=torch.float32)
    return model.eval()


def qwen2_reference(folder: Path, *, is_causal: bool, ids_BS: Ids, mask_BS: Ids) -> Vectors:
    """What that gives row by row and unpadded; the last token's state."""
    model = qwen2_model(folder, is_causal=is_causal)
    with torch.inference_mode():
        states = [
            model(input_ids=torch.from_numpy(ids[None, : mask.sum()])).last_hidden_state[0, -1]
            for ids, mask in zip(ids_BS, mask_BS, strict=True)
        ]
    return unit(torch.stack(states))


@functools.cache
def jina_model(folder: Path, task: str) -> Any:
    """PEFT on transformers' model, with the adapters of one task."""
    with quiet_transformers():
        base = JinaEmbeddingsV3Model.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False)
        return PeftModel.from_pretrained(base, folder / task_folder(task)).eval()


def jina_reference(folder: Path, tasks: NDArray[np.int64], ids_BS: Ids, mask_BS: Ids) -> Vectors:
    """One task at a time; the mean over real tokens."""
    given = np.empty((len(ids_BS), 1024))
    for number in sorted(set(tasks.tolist())):
        model = jina_model(folder, JINA.tasks[number])
        with torch.inference_mode():
            chosen = tasks == number
            mask = torch.from_numpy(mask_BS[chosen])
            states = model(input_ids=torch.from_numpy(ids_BS[chosen]), attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1)
            given[chosen] = unit((states * weights).sum(1) / weights.sum(1))
    return given


def exported(spec: EncoderSpec, folder: Path, target: Path, options: BuildOptions | None = None) -> Any:
    """The encoder of a checkpoint as an onnxruntime session."""
    options = options or BuildOptions()
    encoder, _ = build_encoder(spec, open_checkpoint(spec, folder), options)
    export_onnx(encoder, effective_spec(spec, options), target)
    return onnxruntime.InferenceSession(target / "model.onnx", providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module", autouse=True)
def _forget_models() -> Iterator[None]:
    """Six of some hundred megabytes."""
    yield
    qwen2_model.cache_clear()
    jina_model.cache_clear()


@pytest.fixture(scope="module")
def jina_session(jina_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All five tasks in one graph."""
    return exported(JINA, jina_folder, tmp_path_factory.mktemp("jina-onnx"))


def run(session: Any, ids_BS: Ids, mask_BS: Ids, task_B: Ids | None = None) -> NDArray[np.float32]:
    """Vectors of one batch."""
    feeds = {"input_ids": ids_BS, "attention_mask": mask_BS}
    if task_B is not None:
        feeds["task_id"] = task_B[:, None]
    vectors: NDArray[np.float32] = session.run(["sentence_embedding"], feeds)[0]
    return vectors


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_qwen2_equals_transformers_under_both_attentions(qwen2_folder: Path, tmp_path: Path, attention: str) -> None:
    """Padding, batch mates and length change nothing; causal and bidirectional are really two encoders."""
    session = exported(dataclasses.replace(QODO, attention=attention), qwen2_folder, tmp_path)
    for shape in SHAPES:
        ids_BS, mask_BS = rows(*shape)
        expected = qwen2_reference(qwen2_folder, is_causal=attention == "causal", ids_BS=ids_BS, mask_BS=mask_BS)
        np.testing.assert_allclose(run(session, ids_BS, mask_BS), expected, atol=2e-5, err_msg=str(shape))
    other = qwen2_reference(qwen2_folder, is_causal=attention != "causal", ids_BS=ids_BS, mask_BS=mask_BS)
    assert float((expected * other).sum(1).max()) < 0.999


@pytest.mark.parametrize("shape", SHAPES)
def test_jina_chooses_its_adapter_row_by_row(jina_folder: Path, jina_session: Any, shape: tuple[int, int]) -> None:
    """A batch of all tasks mixed equals PEFT run task by task."""
    ids_BS, mask_BS = rows(*shape)
    tasks = np.arange(shape[0], dtype=np.int64) % 5
    expected = jina_reference(jina_folder, tasks, ids_BS, mask_BS)
    np.testing.assert_allclose(run(jina_session, ids_BS, mask_BS, tasks), expected, atol=1e-5)


def test_every_task_of_jina_is_another_encoder(jina_folder: Path, jina_session: Any) -> None:
    """The same tokens under five tasks: each as PEFT has it, no two alike, alone as in a mixed batch."""
    ids_S, _ = rows(1, 40)
    ids_BS, mask_BS = np.repeat(ids_S, 5, axis=0), np.ones((5, 40), dtype=np.int64)
    tasks = np.arange(5, dtype=np.int64)
    together = run(jina_session, ids_BS, mask_BS, tasks)
    np.testing.assert_allclose(together, jina_reference(jina_folder, tasks, ids_BS, mask_BS), atol=1e-5)
    for task in range(5):
        one = slice(task, task + 1)
        np.testing.assert_allclose(run(jina_session, ids_BS[one], mask_BS[one], tasks[one]), together[one], atol=1e-6)
    cosines = together @ together.T
    assert cosines[~np.eye(5, dtype=bool)].max() < 0.999


def test_one_task_of_jina_merged_needs_no_task_id(jina_folder: Path, tmp_path: Path) -> None:
    """The merged graph is the task that was merged."""
    session = exported(JINA, jina_folder, tmp_path, BuildOptions(merge_task="text-matching"))
    ids_BS, mask_BS = rows(3, 17)
    expected = jina_reference(jina_folder, np.full(3, 4), ids_BS, mask_BS)
    np.testing.assert_allclose(run(session, ids_BS, mask_BS), expected, atol=1e-5)
    with pytest.raises(ExportError, match="the task to merge must be one of retrieval.query, .*, not 'ranking'"):
        exported(JINA, jina_folder, tmp_path, BuildOptions(merge_task="ranking"))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_typed_graph_keeps_norms_and_softmax_in_fp32(qwen2_folder: Path, tmp_path: Path, precision: str) -> None:
    """Every product reads 16-bit operands; what is summed, rooted or exponentiated reads fp32."""
    import onnx

    encoder, _ = build_encoder(QODO, open_checkpoint(QODO, qwen2_folder))
    set_matmul_precision(encoder.transformer, precision)
    export_onnx(encoder, QODO, tmp_path)
    model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "model.onnx"))
    graph = model.graph
    types = {one.name: one.type.tensor_type.elem_type for one in [*graph.value_info, *graph.input, *graph.output]}
    types |= {one.name: one.data_type for one in graph.initializer}
    narrow = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}[precision]
    products = [node for node in graph.node if node.op_type in {"MatMul", "Gemm"}]
    big = [node for node in products if types[node.input[0]] == narrow and types[node.input[1]] == narrow]
    # 7 linear layers and 2 products of attention in each of 2 layers; the rest is the rotary angles, in fp32.
    assert len(big) == 18
    wide = [node for node in graph.node if node.op_type in {"Softmax", "ReduceMean", "Sqrt", "Pow", "Reciprocal"}]
    assert wide
    assert {types[node.input[0]] for node in wide} <= {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE}
    large = {one.data_type for one in graph.initializer if np.prod(one.dims) > 100_000}
    assert large == {narrow}
    assert (tmp_path / "model.onnx").stat().st_size < 200_000_000  # half of fp32's 381 MB


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_sixteen_bit_encoder_stays_close(qwen2_folder: Path, precision: str) -> None:
    """Cosine to the fp32 encoder of the same weights."""
    encoder, _ = build_encoder(QODO, open_checkpoint(QODO, qwen2_folder))
    batch = [torch.from_numpy(one) for one in rows(8, 64)]
    with torch.inference_mode():
        exact = encoder(*batch)
        set_matmul_precision(encoder.transformer, precision)
        cosines = (exact * encoder(*batch)).sum(1)
    assert float(cosines.min()) > (0.9999 if precision == "bf16" else 0.999995)
    assert float(cosines.min()) < 0.99999999


@pytest.mark.parametrize("opset", [20, 23])
def test_newer_opsets_give_the_same_vectors(jina_folder: Path, tmp_path: Path, opset: int) -> None:
    """Opset 23 is where implicit positions broke batches."""
    encoder, _ = build_encoder(JINA, open_checkpoint(JINA, jina_folder))
    export_onnx(encoder, JINA, tmp_path, opset=opset)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    ids_BS, mask_BS = rows(8, 64)
    tasks = np.arange(8, dtype=np.int64) % 5
    with torch.inference_mode():
        expected = encoder(*(torch.from_numpy(one) for one in (ids_BS, mask_BS, tasks[:, None]))).numpy()
    np.testing.assert_allclose(run(session, ids_BS, mask_BS, tasks), expected, atol=1e-5)
