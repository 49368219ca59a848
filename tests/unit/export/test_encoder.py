"""Row-wise task adapters equal each task merged alone, and broken rows do not look healthy."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export.adapters import Adapters, save_adapters
from export.build import BuildRequest
from export.encoder import BuildOptions, Encoder, build_encoder
from export.errors import ExportError
from export.python_backend.host import open_session
from export.repository import EncoderFolder
from export.source import Checkpoint
from export.spec import EncoderSpec

IDS = torch.tensor([[101, 7592, 2088, 102], [101, 3853, 102, 0], [101, 7592, 2088, 102]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]])
TASKS = torch.tensor([[0], [1], [1]])


def encoder_of(
    spec: EncoderSpec, checkpoint: Checkpoint, adapters: Adapters, folder: Path, options: BuildOptions | None = None
) -> Encoder:
    """The encoder of a checkpoint whose adapters are these."""
    save_adapters(adapters, folder / "adapters.safetensors")
    return build_encoder(spec, dataclasses.replace(checkpoint, adapters_folder=folder), options)[0]


def test_mixed_tasks_equal_each_task_merged_alone(
    text_spec: EncoderSpec, checkpoint: Checkpoint, random_adapters: Adapters, tmp_path: Path
) -> None:
    """Every row gets its own task's weights, whatever its neighbours use."""
    with torch.no_grad():
        mixed = encoder_of(text_spec, checkpoint, random_adapters, tmp_path)(IDS, MASK, TASKS)
        for row, task in enumerate(TASKS[:, 0].tolist()):
            options = BuildOptions(merge_task=text_spec.tasks[task])
            alone = encoder_of(text_spec, checkpoint, random_adapters, tmp_path, options)
            expected = alone(IDS[row : row + 1], MASK[row : row + 1])
            torch.testing.assert_close(mixed[row : row + 1], expected, atol=1e-5, rtol=0)
    # The same tokens under two tasks differ: the adapters are really chosen.
    assert float((mixed[0] * mixed[2]).sum()) < 0.99


def test_exported_graph_applies_the_task_of_each_row(
    small_candidate: tuple[EncoderFolder, BuildRequest, Checkpoint],
) -> None:
    """The ONNX file chooses adapters, here random ones, as the torch module does."""
    folder, request, checkpoint = small_candidate
    candidate = folder.candidate()
    assert candidate is not None
    session = open_session("onnxruntime", candidate.folder / "model.onnx", "fp32", 2)
    given = session.run({"input_ids": IDS.numpy(), "attention_mask": MASK.numpy(), "task_id": TASKS.numpy()})
    encoder, _ = build_encoder(request.spec, checkpoint)
    with torch.no_grad():
        np.testing.assert_allclose(given, encoder(IDS, MASK, TASKS).numpy(), atol=1e-5)
    assert float((given[0] * given[2]).sum()) < 0.99


def test_vectors_are_unit_and_an_empty_row_is_not_a_vector(built: tuple[Encoder, Adapters]) -> None:
    """A row without tokens must be refusable: NaN, not a plausible direction."""
    mask = MASK.clone()
    mask[2] = 0
    with torch.no_grad():
        vectors = built[0](IDS, mask, TASKS)
    torch.testing.assert_close(vectors[:2].norm(dim=-1), torch.ones(2))
    assert torch.isnan(vectors[2]).all()


def test_lora_target_that_names_no_layer_is_refused(text_spec: EncoderSpec, checkpoint: Checkpoint) -> None:
    """A typo does not silently train nothing."""
    assert text_spec.lora is not None
    lora = dataclasses.replace(text_spec.lora, targets=("qeury",))
    with pytest.raises(ExportError, match=r"lora\.targets names 'qeury'"):
        build_encoder(dataclasses.replace(text_spec, lora=lora), checkpoint)


def test_graph_has_the_contract_and_no_trace_of_the_machine(exported: Path) -> None:
    """Names and dynamic axes as Triton's config states them; no path of the exporting machine."""
    model = onnx.load(exported / "model.onnx")
    assert [one.name for one in model.graph.input] == ["input_ids", "attention_mask", "task_id"]
    assert [one.name for one in model.graph.output] == ["sentence_embedding"]
    assert [dim.dim_param or dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim][1] == 1024
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    content = (exported / "model.onnx").read_bytes()
    assert b"site-packages" not in content
    assert str(Path(__file__).parents[3]).encode() not in content
