"""Options that several commands share, and those that say what to build, gathered in one object."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from export.gate.settings import LEAST_PAIRS, GateSettings
from export.locks import DEFAULT_WAIT_S
from export.serving import LENGTH_BUCKETS, Runtime

_R = TypeVar("_R")

Repository = Annotated[Path, typer.Option("--repository", help="Model repository: one folder an encoder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, for programs.")]
Wait = Annotated[float, typer.Option("--wait", min=0, help="How long to wait for another exporter, seconds.")]
Encoder = Annotated[str, typer.Option("--encoder", help="Folder of the encoder in the repository.")]
OneEncoder = Annotated[
    str | None, typer.Option("--encoder", help="Folder of the encoder in the repository; all of them without it.")
]
TritonUrl = Annotated[
    str | None,
    typer.Option(
        "--triton-url",
        envvar="DUOVEC_TRITON_URL",
        show_envvar=True,
        help="host:port of the gRPC endpoint of the Triton that serves the repository, in explicit model control "
        "mode. Without it only the disk changes.",
    ),
]
TritonTimeout = Annotated[
    float, typer.Option("--triton-timeout", min=0.1, help="How long Triton may take to load a version, seconds.")
]
DEFAULT_TRITON_TIMEOUT_S = 600.0

GatePairs = Annotated[
    int, typer.Option("--gate-pairs", min=LEAST_PAIRS, help="(query, code) pairs that the gate searches.")
]
GateLongest = Annotated[
    int,
    typer.Option(
        "--gate-longest",
        min=LENGTH_BUCKETS[0],
        help="Longest rows that the gate compares, tokens; the report names the buckets that were left out.",
    ),
]
DEFAULT_GATE = GateSettings()


class Pair(StrEnum):
    """Built-in pairs of encoders."""

    COMPACT = "compact"
    FULL = "full"


class PrecisionChoice(StrEnum):
    """A precision, or the choice of one."""

    AUTO = "auto"
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT8_BF16 = "int8-bf16"


class LoraChoice(StrEnum):
    """What becomes of low-rank adapters."""

    AUTO = "auto"
    MERGE = "merge"
    PER_ROW = "per-row"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What to build, as the command line says it."""

    pair: Annotated[Pair | None, typer.Option(help="A built-in pair of encoders.")] = None
    encoder: Annotated[str | None, typer.Option(help="One built-in encoder, such as qodo-embed-1-1.5b.")] = None
    spec: Annotated[Path | None, typer.Option(help="The TOML file of an encoder of your own.")] = None
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Fine-tuned weights instead of the spec's own: a transformers or sentence-transformers folder, or a "
            "folder of adapters (PEFT's, or adapters.safetensors). With --encoder or --spec."
        ),
    ] = None
    runtime: Annotated[Runtime, typer.Option(help="What will run the encoder.")] = Runtime.OPENVINO
    precision: Annotated[
        PrecisionChoice, typer.Option(help="auto is the spec's precision where the runtime has it here, else fp32.")
    ] = PrecisionChoice.AUTO
    threads: Annotated[
        int,
        typer.Option(
            min=0,
            help="Threads of one inference on CPU, where `configure` set none; 0 for half of the cores, since the "
            "encoders of a pair run at once.",
        ),
    ] = 0
    lora: Annotated[
        LoraChoice, typer.Option(help="auto keeps an adapter a task, chosen row by row, and merges a single one.")
    ] = LoraChoice.AUTO
    merge_task: Annotated[str | None, typer.Option(help="The task to merge with --lora merge.")] = None
    drop_layers: Annotated[int, typer.Option(min=0, help="Prune as many layers, those that change least.")] = 0
    ffn_width: Annotated[int | None, typer.Option(min=1, help="Prune feed-forward layers to this width.")] = None
    opset: Annotated[int, typer.Option(help="ONNX opset of the graph.")] = 18
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="An engine that later versions of TensorRT run as well.")
    ] = False
    timing_cache: Annotated[
        Path | None, typer.Option(help="File of what TensorRT measured: makes its next build fast.")
    ] = None
    offline: Annotated[bool, typer.Option("--offline", help="Download nothing.")] = False
    cache_dir: Annotated[Path | None, typer.Option(help="Where downloads are kept; the hub's own place without.")] = (
        None
    )
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Accept the license of weights to download without being asked.")
    ] = False


def takes_choice(command: Callable[..., _R]) -> Callable[..., _R]:
    """Give a command the options of `Choice`; it gets them as its argument `choice`."""
    names = [field.name for field in fields(Choice)]

    def wrapped(**arguments: Any) -> _R:
        choice = Choice(**{name: arguments.pop(name) for name in names})
        return command(choice=choice, **arguments)

    own = [one for one in inspect.signature(command).parameters.values() if one.name != "choice"]
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
    chosen = list(inspect.signature(Choice).parameters.values())
    wrapped.__signature__ = inspect.Signature(parameters[:1] + chosen + parameters[1:])  # type: ignore[attr-defined]
    wrapped.__doc__, wrapped.__name__ = command.__doc__, command.__name__
    return wrapped


__all__ = ["DEFAULT_WAIT_S", "AsJson", "Choice", "Encoder", "OneEncoder", "Repository", "TritonUrl", "Wait"]
