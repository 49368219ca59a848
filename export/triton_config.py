"""config.pbtxt: built as the protobuf message, written as text, parsed back before it counts."""

from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import (
    TYPE_FP32,
    TYPE_INT64,
    ModelConfig,
    ModelInstanceGroup,
    ModelQueuePolicy,
)

from export.errors import ExportError
from export.spec import EncoderSpec

MAX_BATCH_SIZE = 64
# Padded tokens of a micro-batch; measured best on CPU, where big padded batches are 2.5 to 6 times slower.
TOKEN_BUDGET = 512
# Long enough for requests in flight together to meet, short against one forward pass (2 ms and more).
MAX_QUEUE_DELAY_US = 500
MAX_QUEUE_REQUESTS = 256
QUEUE_TIMEOUT_US = 30_000_000

_HEADER = "# Written by duovec-export; the runtime, threads and precision are those of the machine that published.\n"


@dataclass(frozen=True)
class Serving:
    """How a version is run: `openvino` or `onnxruntime`, `f32` or `bf16`, threads of one inference."""

    runtime: str
    precision: str
    num_threads: int


def build_config(spec: EncoderSpec, version: int, serving: Serving) -> ModelConfig:
    """The model configuration that serves exactly one version of an encoder."""
    config = ModelConfig(name=spec.name, backend="python", max_batch_size=MAX_BATCH_SIZE)
    for name in ("input_ids", "attention_mask"):
        config.input.add(name=name, data_type=TYPE_INT64, dims=[-1], allow_ragged_batch=True)
    if spec.tasks:
        config.input.add(name="task_id", data_type=TYPE_INT64, dims=[1])
    config.output.add(name="sentence_embedding", data_type=TYPE_FP32, dims=[spec.dimension])
    config.version_policy.specific.versions.append(version)
    config.instance_group.add(count=1, kind=ModelInstanceGroup.KIND_CPU)
    config.dynamic_batching.max_queue_delay_microseconds = MAX_QUEUE_DELAY_US
    # A caller's own, shorter deadline may override the timeout: work nobody waits for is dropped.
    config.dynamic_batching.default_queue_policy.CopyFrom(
        ModelQueuePolicy(
            timeout_action=ModelQueuePolicy.REJECT,
            default_timeout_microseconds=QUEUE_TIMEOUT_US,
            allow_timeout_override=True,
            max_queue_size=MAX_QUEUE_REQUESTS,
        )
    )
    parameters = {
        "runtime": serving.runtime,
        "precision": serving.precision,
        "num_threads": str(serving.num_threads),
        "token_budget": str(TOKEN_BUDGET),
    }
    for key, value in parameters.items():
        config.parameters[key].string_value = value
    return config


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


def served_version(path: Path) -> int | None:
    """The version that a config.pbtxt serves; None when there is no such file.

    Raises:
        ExportError: The file does not parse, or serves none or several versions.
    """
    if not path.is_file():
        return None
    versions = parse_config(path.read_text(encoding="utf-8"), str(path)).version_policy.specific.versions
    if len(versions) != 1:
        raise ExportError(f"{path} must serve exactly one version, not {list(versions)}")
    return int(versions[0])
