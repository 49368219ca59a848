"""The config.pbtxt files in git are what the generator writes, valid to Triton, and consistent in themselves."""

import dataclasses
from pathlib import Path

import pytest
from golden_configs import GOLDEN, PLAIN, PRODUCTION, REPOSITORY, WITH_TASKS, config_text, expected_files
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import (
    TYPE_FP32,
    TYPE_INT64,
    ModelConfig,
    ModelInstanceGroup,
    ModelQueuePolicy,
)

from export.deployment import Deployment, deployment_of, plan_deployment
from export.errors import ExportError
from export.profiles import profiles_of
from export.serving import PRECISIONS, Runtime, Serving
from export.spec import builtin_encoders, load_builtin
from export.triton_config import build_config, parse_config

NATIVE = [runtime for runtime in Runtime if runtime.backend != "python"]
ON_GPU = [runtime for runtime in Runtime if runtime.needs_gpu]
FILES = sorted(expected_files().items())


def deployed(encoder: str, runtime: Runtime) -> Deployment:
    return plan_deployment(load_builtin(encoder), Serving(runtime, PRECISIONS[runtime][0], 2))


def config_of(encoder: str, runtime: Runtime) -> ModelConfig:
    return build_config(deployed(encoder, runtime), served_version=1)


@pytest.mark.parametrize(("path", "expected"), FILES, ids=lambda value: value.stem if isinstance(value, Path) else "")
def test_committed_file_is_what_the_generator_writes(path: Path, expected: str) -> None:
    """A change of the generator shows up in git, for every runtime, with tasks and without."""
    assert path.read_text(encoding="utf-8") == expected, "python tests/contract/golden_configs.py writes it again"


@pytest.mark.parametrize("path", [path for path, _ in FILES], ids=lambda path: path.stem)
def test_committed_file_is_a_triton_configuration(path: Path) -> None:
    """By the client's own message, strictly: an unknown field fails."""
    config = text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
    assert config.backend in {"python", "onnxruntime", "tensorrt"}


def test_no_file_is_left_over() -> None:
    """A runtime or an encoder that went away takes its file with it."""
    found = {*GOLDEN.glob("*"), *REPOSITORY.glob("*/config.pbtxt")}
    assert found == set(expected_files())
    assert {path.parent.name for path in REPOSITORY.glob("*/config.pbtxt")} == set(builtin_encoders())


@pytest.mark.parametrize("runtime", Runtime)
@pytest.mark.parametrize("encoder", builtin_encoders())
def test_config_states_the_contract_with_the_gateway(encoder: str, runtime: Runtime) -> None:
    """Names, types and dimensions, the same on every backend; ours says of which rows an answer is, too."""
    spec, config = load_builtin(encoder), config_of(encoder, runtime)
    inputs = [(one.name, one.data_type, list(one.dims), one.allow_ragged_batch) for one in config.input]
    assert inputs[:2] == [("input_ids", TYPE_INT64, [-1], False), ("attention_mask", TYPE_INT64, [-1], False)]
    assert inputs[2:] == ([("task_id", TYPE_INT64, [1], False)] if spec.tasks else [])
    outputs = [(one.name, one.data_type, list(one.dims)) for one in config.output]
    digest = [("row_digest", TYPE_INT64, [1])] if runtime.backend == "python" else []
    assert outputs == [("sentence_embedding", TYPE_FP32, [spec.dimension]), *digest]
    assert (config.name, config.backend) == (encoder, runtime.backend)


@pytest.mark.parametrize("runtime", Runtime)
def test_queues_are_bounded_and_refuse_rather_than_delay(runtime: Runtime) -> None:
    """A full queue or an old request ends in an error that the gateway can map; a search does not wait for a bulk."""
    batching = config_of(PLAIN, runtime).dynamic_batching
    assert (batching.priority_levels, batching.default_priority_level) == (2, 2)
    policies = [batching.default_queue_policy, *batching.priority_queue_policy.values()]
    assert {policy.timeout_action for policy in policies} == {ModelQueuePolicy.REJECT}
    assert {policy.max_queue_size for policy in policies} == {256}
    assert all(policy.allow_timeout_override for policy in policies)
    interactive, bulk = batching.priority_queue_policy[1], batching.priority_queue_policy[2]
    assert interactive.default_timeout_microseconds == 5_000_000
    assert bulk.default_timeout_microseconds == 30_000_000
    assert batching.default_queue_policy == bulk


@pytest.mark.parametrize("runtime", Runtime)
@pytest.mark.parametrize("encoder", builtin_encoders())
def test_warm_up_buckets_profiles_and_batch_limit_fit_each_other(encoder: str, runtime: Runtime) -> None:
    """Whatever the batcher may make was built for and was run before, and nothing else was."""
    deployment, config = deployed(encoder, runtime), config_of(encoder, runtime)
    lengths = [warmup.inputs["input_ids"].dims[0] for warmup in config.model_warmup]
    assert config.max_batch_size == deployment.max_batch_size
    if runtime.backend == "python":
        assert lengths == []
        assert not deployment.length_buckets
        parameter = config.parameters["warmup_lengths"].string_value
        assert [int(length) for length in parameter.split(",")] == [512, 256, 128, 64, 32, 16]
        return
    assert deployment.length_buckets[-1] == deployment.max_tokens
    wanted = [length for length in reversed(deployment.length_buckets) if runtime.needs_gpu or length <= 512]
    assert lengths == wanted
    rows = deployment.max_batch_size if runtime.needs_gpu else 1
    assert {warmup.batch_size for warmup in config.model_warmup} == {rows}
    for warmup in config.model_warmup:
        assert set(warmup.inputs) == set(deployment.input_names)
        assert list(warmup.inputs["attention_mask"].dims) == list(warmup.inputs["input_ids"].dims)
        assert warmup.inputs["attention_mask"].input_data_file == f"ones_{lengths[0]}"
        assert warmup.inputs["input_ids"].zero_data
    if runtime is Runtime.TENSORRT:
        profiles = profiles_of(deployment)
        (group,) = config.instance_group
        assert list(group.profile) == [str(index) for index in range(len(profiles))]
        assert [one["input_ids"].most[1] for one in profiles] == list(reversed(lengths))
        assert {one["input_ids"].most[0] for one in profiles} == {config.max_batch_size}
        assert list(config.dynamic_batching.preferred_batch_size) == [profiles[0]["input_ids"].optimal[0]]
    else:
        assert list(config.dynamic_batching.preferred_batch_size) == []


@pytest.mark.parametrize("encoder", [PLAIN, WITH_TASKS])
def test_tensorrt_provider_is_bounded_for_every_input(encoder: str) -> None:
    """A shape outside the bounds rebuilds the engine while requests wait; a 16-bit flag would override the graph."""
    deployment, config = (
        deployed(encoder, Runtime.ONNXRUNTIME_TENSORRT),
        config_of(encoder, Runtime.ONNXRUNTIME_TENSORRT),
    )
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    parameters = dict(accelerator.parameters)
    bounds = {}
    for bound in ("min", "opt", "max"):
        parts = [part.split(":") for part in parameters[f"trt_profile_{bound}_shapes"].split(",")]
        bounds[bound] = {name: tuple(map(int, shape.split("x"))) for name, shape in parts}
        assert tuple(bounds[bound]) == deployment.input_names
    assert bounds["min"]["input_ids"] == (1, 1)
    assert bounds["max"]["input_ids"] == (config.max_batch_size, deployment.max_tokens)
    assert all(
        low <= best <= high
        for name in deployment.input_names
        for low, best, high in zip(bounds["min"][name], bounds["opt"][name], bounds["max"][name], strict=True)
    )
    # The keys that Triton's onnxruntime backend documents; with any other it does not load the model.
    assert parameters.keys() <= {
        *("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes"),
        *("trt_engine_cache_enable", "trt_engine_cache_path", "trt_timing_cache_enable"),
    }
    assert parameters["trt_engine_cache_enable"] == "1"


@pytest.mark.parametrize("runtime", Runtime)
def test_one_copy_of_the_weights_and_one_forward_pass_a_gpu(runtime: Runtime) -> None:
    """Two encoders share the card: each instance asks for the same single resource of it. The hosts on CPU are two."""
    groups = [config_of(encoder, runtime).instance_group for encoder in (PLAIN, WITH_TASKS)]
    for (group,) in groups:
        kind = ModelInstanceGroup.KIND_GPU if runtime in ON_GPU else ModelInstanceGroup.KIND_CPU
        assert (group.count, group.kind) == (2 if runtime.backend == "python" else 1, kind)
        resources = [(one.name, one.count, getattr(one, "global")) for one in group.rate_limiter.resources]
        assert resources == ([("forward_pass", 1, False)] if runtime in ON_GPU else [])


@pytest.mark.parametrize("runtime", Runtime)
def test_memory_does_not_grow_with_the_shapes(runtime: Runtime) -> None:
    """onnxruntime's arena by its defaults doubled the memory of a process that had seen every shape."""
    config = config_of(PLAIN, runtime)
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    accelerators = {
        one.name: dict(one.parameters) for one in config.optimization.execution_accelerators.gpu_execution_accelerator
    }
    if runtime is Runtime.ONNXRUNTIME_CPU:
        assert (parameters["enable_mem_arena"], parameters["enable_mem_pattern"]) == ("0", "0")
    if runtime is Runtime.ONNXRUNTIME_CUDA:
        assert parameters["enable_mem_pattern"] == "0"
        assert accelerators == {"cuda": {"arena_extend_strategy": "kSameAsRequested"}}
    assert not config.response_cache.enable


def test_versions_are_listed_and_one_is_served() -> None:
    """Triton keeps the older one loaded; the gateway asks for the served one."""
    config = parse_config(config_text(PLAIN, Runtime.OPENVINO, served=7, loaded=(9, 7)), "")
    assert list(config.version_policy.specific.versions) == [7, 9]
    assert config.parameters["served_version"].string_value == "7"
    with pytest.raises(ExportError, match=r"version 3 cannot serve when only \[1, 2\] are loaded"):
        config_text(PLAIN, Runtime.OPENVINO, served=3, loaded=(1, 2))


@pytest.mark.parametrize("runtime", Runtime)
def test_a_version_s_manifest_gives_its_config_back(runtime: Runtime) -> None:
    """A rollback writes the old version's batch limit and buckets, whatever today's exporter would choose."""
    old = deployed(WITH_TASKS, runtime)
    if old.length_buckets:
        old = dataclasses.replace(old, max_batch_size=4, length_buckets=(100, 2048))
    manifest = {
        "encoder": old.encoder,
        "runtime": str(old.runtime),
        "dimension": old.dimension,
        "serving": old.as_manifest(),
        "spec": {"tasks": ["one", "two"], "max_tokens": 2048},
    }
    assert deployment_of(manifest, Path("manifest.json")) == old


def test_no_weights_are_tracked_beside_the_configs() -> None:
    """Version folders and warm-up data stay out of git; the patterns that keep them out are still there."""
    ignored = (REPOSITORY.parent / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"model_repository/*/[0-9]*/", "model_repository/*/warmup/"} <= set(ignored)


def test_production_serves_the_full_pair_on_gpu() -> None:
    """And the compact pair on a laptop."""
    assert {encoder for encoder, runtime in PRODUCTION.items() if runtime.needs_gpu} == {PLAIN, WITH_TASKS}
