"""Optimization profiles: together they take exactly what Triton may send."""

import pytest
from deployments import SMALL, deployed

from export.profiles import Bounds, profiles_of, spanning_profile
from export.serving import Runtime
from export.spec import builtin_encoders


def test_every_bucket_has_a_profile_tuned_for_its_full_batch() -> None:
    """The shapes, written out."""
    first, second, third = (profile["input_ids"] for profile in profiles_of(SMALL))
    assert first == Bounds((1, 1), (8, 16), (8, 16))
    assert second == Bounds((1, 17), (8, 32), (8, 32))
    assert third == Bounds((1, 33), (8, 48), (8, 48))


@pytest.mark.parametrize("encoder", builtin_encoders())
def test_every_length_is_in_exactly_one_profile(encoder: str) -> None:
    """A length in none is an error under load; in two, a slower engine by chance."""
    deployment = deployed(encoder, Runtime.TENSORRT)
    profiles = profiles_of(deployment)
    for length in range(1, deployment.max_tokens + 1):
        fitting = [one for one in profiles if one["input_ids"].least[1] <= length <= one["input_ids"].most[1]]
        assert len(fitting) == 1
    assert {one["input_ids"].least[0] for one in profiles} == {1}
    assert {one["input_ids"].most[0] for one in profiles} == {deployment.max_batch_size}


@pytest.mark.parametrize("encoder", builtin_encoders())
def test_every_input_of_the_graph_has_bounds(encoder: str) -> None:
    """TensorRT refuses an engine with a dynamic input that a profile leaves out; a task id is one number a row."""
    deployment = deployed(encoder, Runtime.TENSORRT)
    for profile in [*profiles_of(deployment), spanning_profile(deployment)]:
        assert tuple(profile) == deployment.input_names
        assert profile["attention_mask"] == profile["input_ids"]
        if deployment.takes_task:
            rows = profile["input_ids"]
            assert profile["task_id"] == Bounds((rows.least[0], 1), (rows.optimal[0], 1), (rows.most[0], 1))


def test_one_profile_spans_all_for_a_runtime_that_has_no_choice() -> None:
    """From the shortest row to the longest, tuned for the usual one."""
    deployment = deployed("jina-embeddings-v3", Runtime.ONNXRUNTIME_TENSORRT)
    rows = deployment.max_batch_size
    assert spanning_profile(deployment)["input_ids"] == Bounds((1, 1), (rows, 128), (rows, deployment.max_tokens))
    assert spanning_profile(SMALL)["input_ids"] == Bounds((1, 1), (8, 48), (8, 48))
