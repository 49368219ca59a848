"""A shell script with the `trtexec` commands of an engine, for the container on the machine that will serve it."""

import shlex
import stat
from pathlib import Path

from export.deployment import Deployment
from export.disk import replace_text, writing
from export.profiles import Bounds, profiles_of
from export.tensorrt_build import EngineOptions
from export.tensorrt_engine import ENGINE_FILE, RECORD_FILE

TRITON_IMAGE = "nvcr.io/nvidia/tritonserver:26.07-py3"

_SCRIPT = r"""#!/usr/bin/env bash
# Builds the TensorRT engine of @ENCODER@ from its ONNX graph. Written by duovec-export.
#
# An engine runs on the kind of GPU and the version of TensorRT that built it: run this where it will be served, in
# the image that will serve it, over the folder of the candidate (@FOLDER@):
#
#   docker run --rm --gpus all --volume REPOSITORY/@ENCODER@/.candidate:/candidate --volume "$PWD":/script \
#       @IMAGE@ bash /script/@NAME@ /candidate
#
# It leaves @PLAN@ and @RECORD@ there. Then, where a GPU and TensorRT are:
#
#   duovec-export verify --repository REPOSITORY --encoder @ENCODER@
#   duovec-export publish --repository REPOSITORY --encoder @ENCODER@ --runtime tensorrt --precision @PRECISION@
set -euo pipefail

if [[ $# -ne 1 || ! -f "$1/model.onnx" ]]; then
    echo "usage: $0 FOLDER   (the candidate's folder, with model.onnx)" >&2
    exit 2
fi
cd -- "$1"

for trtexec in "$(command -v trtexec || true)" /usr/src/tensorrt/bin/trtexec /opt/tensorrt/bin/trtexec; do
    [[ -x $trtexec ]] && break
done
if [[ ! -x $trtexec ]]; then
    echo "trtexec is neither on the PATH nor in /usr/src/tensorrt/bin: run this in @IMAGE@" >&2
    exit 1
fi

arguments=(
    --onnx=model.onnx
    --saveEngine=@PLAN@.new
    --skipInference
    # Most GPU memory that one layer may take for its intermediate results, MiB.
    --memPoolSize=workspace:@WORKSPACE@
    # Kernels measured once are not measured again by the next build.
    --timingCacheFile=@CACHE@
@COMPATIBLE@
@PROFILES@
)
# The types in the graph decide. TensorRT 11 knows only this mode; 10 needs to be told.
help="$("$trtexec" --help 2>&1 || true)"
if [[ $help == *--stronglyTyped* ]]; then
    arguments+=(--stronglyTyped)
fi

log="$(mktemp)"
trap 'rm -f -- "$log" @PLAN@.new' EXIT
"$trtexec" "${arguments[@]}" 2>&1 | tee "$log"

# trtexec names its version as one number: v110400 is 11.4.0.
number="$(grep -oE 'TensorRT v[0-9]{6}' "$log" | head -n 1 | tr -dc 0-9 || true)"
gpu="$(nvidia-smi --query-gpu=name,compute_cap --format=csv,noheader | head -n 1 || true)"
if [[ -z $number || $gpu != *", "* ]]; then
    echo "cannot tell the version of TensorRT ('$number') or the GPU ('$gpu'): nothing is kept" >&2
    exit 1
fi
printf '{"tensorrt": "%d.%d.%d", "gpu": "%s", "compute_capability": "%s", "version_compatible": @JSON_COMPATIBLE@}\n' \
    "$((10#$number / 10000))" "$((10#$number / 100 % 100))" "$((10#$number % 100))" "${gpu%, *}" "${gpu##*, }" \
    >@RECORD@
mv -- @PLAN@.new @PLAN@
echo "built $PWD/@PLAN@"
"""


def write_build_script(
    path: Path, candidate: Path, deployment: Deployment, precision: str, options: EngineOptions | None = None
) -> None:
    """Write the script that builds a candidate's engine.

    Args:
        path: The script's file; becomes executable.
        candidate: Folder with the candidate's model.onnx, named in the script's comment.
        deployment: Its buckets and batch limit make the profiles.
        precision: Of the candidate, for the command that publishes it.
        options: How to build.

    Raises:
        ExportError: The disk refuses.
    """
    options = options or EngineOptions()
    values = {
        "ENCODER": deployment.encoder,
        "FOLDER": candidate.name,
        "IMAGE": TRITON_IMAGE,
        "NAME": path.name,
        "PRECISION": precision,
        "PLAN": ENGINE_FILE,
        "RECORD": RECORD_FILE,
        "WORKSPACE": str(options.workspace_bytes >> 20),
        "CACHE": shlex.quote(str(options.timing_cache or "/tmp/duovec-timing.cache")),  # noqa: S108  # in the container
        "COMPATIBLE": "    --versionCompatible" if options.version_compatible else "",
        "JSON_COMPATIBLE": "true" if options.version_compatible else "false",
        "PROFILES": "\n".join(_profile_lines(deployment)),
    }
    text = _SCRIPT
    for name, value in values.items():
        text = text.replace(f"@{name}@\n" if not value else f"@{name}@", value)
    with writing(path):
        replace_text(path, text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def _profile_lines(deployment: Deployment) -> list[str]:
    lines = []
    for index, profile in enumerate(profiles_of(deployment)):
        shapes = (
            f"--{option}=" + ",".join(f"{name}:{_shape(bounds, bound)}" for name, bounds in profile.items())
            for option, bound in (("minShapes", "least"), ("optShapes", "optimal"), ("maxShapes", "most"))
        )
        lines.append(f"    --profile={index} {' '.join(shapes)}")
    return lines


def _shape(bounds: Bounds, bound: str) -> str:
    rows, tokens = getattr(bounds, bound)
    return f"{rows}x{tokens}"
