"""The config.pbtxt files in git are what the generator writes, and valid Triton configurations."""

from pathlib import Path

import pytest
from tritonclient.grpc.model_config_pb2 import TYPE_FP32, TYPE_INT64, ModelInstanceGroup, ModelQueuePolicy

from export.spec import EncoderSpec, load_pair
from export.triton_config import Serving, build_config, format_config, parse_config, served_version

REPOSITORY = Path(__file__).parents[2] / "model_repository"
SPECS = load_pair("compact")


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_committed_config_is_what_the_generator_writes(spec: EncoderSpec) -> None:
    """A change of the generator shows up in git."""
    committed = (REPOSITORY / spec.name / "config.pbtxt").read_text(encoding="utf-8")
    assert committed == format_config(build_config(spec, 1, Serving("openvino", "bf16", 2)))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_config_states_the_contract_with_the_gateway(spec: EncoderSpec) -> None:
    """Names, types and dimensions that the gateway's client relies on."""
    path = REPOSITORY / spec.name / "config.pbtxt"
    config = parse_config(path.read_text(encoding="utf-8"), str(path))
    assert (config.name, config.backend, config.max_batch_size) == (spec.name, "python", 64)
    inputs = [(one.name, one.data_type, list(one.dims), one.allow_ragged_batch) for one in config.input]
    assert inputs[:2] == [("input_ids", TYPE_INT64, [-1], True), ("attention_mask", TYPE_INT64, [-1], True)]
    assert inputs[2:] == ([("task_id", TYPE_INT64, [1], False)] if spec.tasks else [])
    outputs = [(one.name, one.data_type, list(one.dims)) for one in config.output]
    assert outputs == [("sentence_embedding", TYPE_FP32, [spec.dimension])]
    assert [(one.count, one.kind) for one in config.instance_group] == [(1, ModelInstanceGroup.KIND_CPU)]
    assert served_version(path) == 1


def test_queue_is_bounded_and_refuses_rather_than_delays() -> None:
    """A full queue or an old request ends in an error that the gateway can map."""
    policy = build_config(SPECS[0], 1, Serving("openvino", "f32", 2)).dynamic_batching.default_queue_policy
    assert policy.timeout_action == ModelQueuePolicy.REJECT
    assert policy.max_queue_size == 256
    assert policy.default_timeout_microseconds == 30_000_000
    assert policy.allow_timeout_override


def test_no_weights_are_tracked_beside_the_configs() -> None:
    """Version folders stay out of git; the pattern that keeps them out is still there."""
    assert "model_repository/*/[0-9]*/" in (REPOSITORY.parent / ".gitignore").read_text(encoding="utf-8").splitlines()
