"""config.pbtxt: built as the protobuf message, written as text, parsed back before it counts.

No response cache: it keys on the whole request, and a request of several rows hardly ever comes twice; the gateway
caches by text.
"""

from collections.abc import Sequence

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import (
    TYPE_FP32,
    TYPE_INT64,
    ModelConfig,
    ModelInstanceGroup,
    ModelOptimizationPolicy,
    ModelQueuePolicy,
)

from export.deployment import HOSTED_INSTANCES, TOKEN_BUDGET, Deployment
from export.errors import ExportError
from export.profiles import Profile, profiles_of, spanning_profile
from export.python_backend.host import DIGEST, OUTPUT
from export.serving import Runtime
from export.tuning import CORES_PARAMETER, Tuning
from export.warmup import add_warmup, warmup_lengths

# Long enough for requests in flight together to meet, short against one forward pass (2 ms and more).
MAX_QUEUE_DELAY_US = 500

INTERACTIVE = 1
"""Priority of a request that somebody waits for; passes every bulk request in the queue."""
BULK = 2
"""Priority of indexing, and of a request that names none."""
# Somebody who searches has left after five seconds; an indexer waits, and sends again.
_QUEUE_TIMEOUT_US = {INTERACTIVE: 5_000_000, BULK: 30_000_000}
_MAX_QUEUE_REQUESTS = 256

# One forward pass at a time on a GPU that two encoders share; Triton heeds it under --rate-limit=execution_count only.
_GPU_RESOURCE = "forward_pass"
_ENGINE_CACHE = "/tmp/duovec-engines"  # noqa: S108  # inside the container; an engine is built again where it is lost

_HEADER = (
    "# Written by duovec-export; do not edit: publish and rollback write it again from a version's manifest.json.\n"
)


def build_config(
    deployment: Deployment,
    *,
    served_version: int,
    loaded_versions: Sequence[int] = (),
    tuning: Tuning | None = None,
) -> ModelConfig:
    """The model configuration that serves one version of an encoder.

    Args:
        deployment: Of the served version.
        served_version: The version that the gateway asks for.
        loaded_versions: Versions that Triton keeps loaded, the served one among them; that one alone when empty.
        tuning: The machine's own settings; None for those of the deployment. Triton's own backends have none.

    Raises:
        ExportError: The served version is not among the loaded ones.
    """
    versions = sorted(loaded_versions or [served_version])
    if served_version not in versions:
        raise ExportError(
            f"{deployment.encoder}: version {served_version} cannot serve when only {versions} are loaded"
        )
    config = ModelConfig(name=deployment.encoder, max_batch_size=deployment.max_batch_size)
    config.backend = deployment.runtime.backend
    config.platform = {"onnxruntime": "onnxruntime_onnx", "tensorrt": "tensorrt_plan"}.get(config.backend, "")
    hosted = config.backend == "python"
    # Not ragged: requests of different widths are no batch then. The gateway has put rows together already, and a query
    # that shared a batch with a request of an index run was answered when that one was.
    for name in ("input_ids", "attention_mask"):
        config.input.add(name=name, data_type=TYPE_INT64, dims=[-1])
    if deployment.takes_task:
        config.input.add(name="task_id", data_type=TYPE_INT64, dims=[1])
    config.output.add(name=OUTPUT, data_type=TYPE_FP32, dims=[deployment.dimension])
    if hosted:
        # Also where the served version is of an older exporter, which never answers it: a newer one may stay loaded.
        config.output.add(name=DIGEST, data_type=TYPE_INT64, dims=[1])
    config.version_policy.specific.versions.extend(versions)
    _add_batching(config, deployment)
    _add_instances(config, deployment)
    if not hosted:
        add_warmup(config, deployment)
    _add_runtime(config, deployment)
    if hosted and tuning is not None:
        _add_tuning(config, tuning)
    config.parameters["served_version"].string_value = str(served_version)
    return config


def _add_batching(config: ModelConfig, deployment: Deployment) -> None:
    batching = config.dynamic_batching
    # The gateway has put rows together already for a host; each query would wait for others in vain.
    batching.max_queue_delay_microseconds = 0 if deployment.runtime.backend == "python" else MAX_QUEUE_DELAY_US
    if deployment.runtime is Runtime.TENSORRT:
        # What the profiles are tuned for; on any other backend a preferred size only holds requests up.
        batching.preferred_batch_size.append(deployment.max_batch_size)
    batching.default_queue_policy.CopyFrom(_queue_policy(BULK))
    batching.priority_levels = BULK
    batching.default_priority_level = BULK
    for level in (INTERACTIVE, BULK):
        batching.priority_queue_policy[level].CopyFrom(_queue_policy(level))


def _queue_policy(level: int) -> ModelQueuePolicy:
    # A caller's own, shorter deadline may override the timeout: work nobody waits for is dropped.
    return ModelQueuePolicy(
        timeout_action=ModelQueuePolicy.REJECT,
        default_timeout_microseconds=_QUEUE_TIMEOUT_US[level],
        allow_timeout_override=True,
        max_queue_size=_MAX_QUEUE_REQUESTS,
    )


def _add_instances(config: ModelConfig, deployment: Deployment) -> None:
    # A second instance is a second copy of the weights. On GPU one means one on each.
    if not deployment.runtime.needs_gpu:
        count = HOSTED_INSTANCES if deployment.runtime.backend == "python" else 1
        config.instance_group.add(count=count, kind=ModelInstanceGroup.KIND_CPU)
        return
    group = config.instance_group.add(count=1, kind=ModelInstanceGroup.KIND_GPU)
    group.rate_limiter.resources.add(name=_GPU_RESOURCE, count=1)
    if deployment.runtime is Runtime.TENSORRT:
        # Without the list Triton takes profile 0 alone, the shortest rows.
        group.profile.extend(str(index) for index in range(len(profiles_of(deployment))))


def _add_runtime(config: ModelConfig, deployment: Deployment) -> None:
    """Threads, memory and provider.

    onnxruntime's arena keeps what it ever took, and by its defaults takes more for every new shape. Measured on the
    arena of its CPU provider with MiniLM, after batches of 16 rows in every bucket, longest first, and 70 mixed ones:
    1,566 MB of process memory by the defaults; 799 MB, and no growth after the longest batch, without memory patterns
    and with blocks of the size asked for; 169 MB without an arena, which a CPU can do without and a GPU cannot.
    """
    match deployment.runtime:
        case Runtime.OPENVINO | Runtime.ONNXRUNTIME:
            parameters = {
                "num_threads": str(deployment.num_threads),
                "token_budget": str(TOKEN_BUDGET),
                "warmup_lengths": ",".join(map(str, warmup_lengths(deployment))),
            }
        case Runtime.ONNXRUNTIME_CPU:
            parameters = {
                "intra_op_thread_count": str(deployment.num_threads),
                "enable_mem_arena": "0",
                "enable_mem_pattern": "0",
            }
        case Runtime.ONNXRUNTIME_CUDA:
            parameters = {"enable_mem_pattern": "0"}
            _add_accelerator(config, "cuda", {"arena_extend_strategy": "kSameAsRequested"})
        case Runtime.ONNXRUNTIME_TENSORRT:
            parameters = {}
            _add_accelerator(config, "tensorrt", _tensorrt_provider(spanning_profile(deployment)))
        case Runtime.TENSORRT:
            parameters = {}
    for key, value in parameters.items():
        config.parameters[key].string_value = value


def _add_tuning(config: ModelConfig, tuning: Tuning) -> None:
    config.instance_group[0].count = tuning.instances
    for key, value in (
        ("num_threads", tuning.num_threads),
        ("token_budget", tuning.token_budget),
        (CORES_PARAMETER, tuning.cores),
    ):
        config.parameters[key].string_value = str(value)


def _tensorrt_provider(profile: Profile) -> dict[str, str]:
    def shapes(bound: str) -> str:
        return ",".join(f"{name}:{'x'.join(map(str, getattr(bounds, bound)))}" for name, bounds in profile.items())

    # Triton refuses to load a model with a key that it does not know. `precision_mode` is left out: the types in the
    # graph decide, norms, softmax and pooling are float32 in it for a reason.
    return {
        # Without bounds, every shape not seen before rebuilds the engine, for 36 to 100 seconds.
        "trt_profile_min_shapes": shapes("least"),
        "trt_profile_opt_shapes": shapes("optimal"),
        "trt_profile_max_shapes": shapes("most"),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": _ENGINE_CACHE,
        "trt_timing_cache_enable": "1",
    }


def _add_accelerator(config: ModelConfig, name: str, parameters: dict[str, str]) -> None:
    accelerators: ModelOptimizationPolicy.ExecutionAccelerators = config.optimization.execution_accelerators
    accelerators.gpu_execution_accelerator.add(name=name, parameters=parameters)


def format_config(config: ModelConfig) -> str:
    """The text of config.pbtxt.

    Raises:
        ExportError: The text does not parse back into the same message.
    """
    text = _HEADER + text_format.MessageToString(config)
    if parse_config(text, "the generated config.pbtxt") != config:
        raise ExportError(f"{config.name}: config.pbtxt does not survive being written and read")
    return text


def parse_config(text: str, where: str) -> ModelConfig:
    """Parse config.pbtxt.

    Raises:
        ExportError: `where` is not a valid Triton model configuration.
    """
    try:
        return text_format.Parse(text, ModelConfig())
    except text_format.ParseError as exc:
        raise ExportError(f"{where} is not a Triton model configuration: {exc}") from exc
