"""The build script, run by bash with a trtexec that records what it is told."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from deployments import SMALL, deployed

from export.profiles import profiles_of
from export.serving import Runtime
from export.tensorrt_build import EngineOptions
from export.tensorrt_engine import EngineRecord, read_record
from export.tensorrt_script import write_build_script

TRTEXEC = """#!/bin/bash
if [[ $1 == --help ]]; then echo "  --stronglyTyped  Create a strongly typed network"; exit 0; fi
printf '%s\\n' "$@" >"$RECORDED"
echo "&&&& RUNNING TensorRT.trtexec [TensorRT $TRT_NUMBER] [b106] # trtexec"
for argument in "$@"; do
    case $argument in --saveEngine=*) echo engine >"${argument#*=}" ;; esac
done
exit "${TRT_EXIT:-0}"
"""
NVIDIA_SMI = """#!/bin/bash
[[ "$*" == "--query-gpu=name,compute_cap --format=csv,noheader" ]] || exit 9
printf 'NVIDIA H100 80GB HBM3, 9.0\\nNVIDIA H100 80GB HBM3, 9.0\\n'
"""


class Stand:
    """A candidate's folder, the script for it, and a machine with TensorRT."""

    def __init__(self, folder: Path) -> None:
        self.script = folder / "build.sh"
        self.candidate = folder / "candidate"
        self.recorded = folder / "arguments"
        self.candidate.mkdir()
        (self.candidate / "model.onnx").write_bytes(b"graph")
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name, text in (("trtexec", TRTEXEC), ("nvidia-smi", NVIDIA_SMI)):
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)

    def run(self, *arguments: str, number: str = "v110400", trtexec_exit: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the script; over the candidate when no arguments are given."""
        environment = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "RECORDED": str(self.recorded),
            "TRT_NUMBER": number,
            "TRT_EXIT": str(trtexec_exit),
        }
        return subprocess.run(
            [self.script, *(arguments or (str(self.candidate),))],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def test_trtexec_gets_one_profile_a_bucket(stand: Stand) -> None:
    """Written out once: the order matters, since shapes belong to the profile before them."""
    write_build_script(stand.script, stand.candidate, SMALL, "bf16")
    done = stand.run()
    assert done.returncode == 0, done.stderr
    assert stand.recorded.read_text().splitlines() == [
        "--onnx=model.onnx",
        "--saveEngine=model.plan.new",
        "--skipInference",
        "--memPoolSize=workspace:8192",
        "--timingCacheFile=/tmp/duovec-timing.cache",
        "--profile=0",
        "--minShapes=input_ids:1x1,attention_mask:1x1,task_id:1x1",
        "--optShapes=input_ids:8x16,attention_mask:8x16,task_id:8x1",
        "--maxShapes=input_ids:8x16,attention_mask:8x16,task_id:8x1",
        "--profile=1",
        "--minShapes=input_ids:1x17,attention_mask:1x17,task_id:1x1",
        "--optShapes=input_ids:8x32,attention_mask:8x32,task_id:8x1",
        "--maxShapes=input_ids:8x32,attention_mask:8x32,task_id:8x1",
        "--profile=2",
        "--minShapes=input_ids:1x33,attention_mask:1x33,task_id:1x1",
        "--optShapes=input_ids:8x48,attention_mask:8x48,task_id:8x1",
        "--maxShapes=input_ids:8x48,attention_mask:8x48,task_id:8x1",
        "--stronglyTyped",
    ]


@pytest.mark.parametrize("encoder", ["qodo-embed-1-1.5b", "jina-embeddings-v3"])
def test_the_shapes_are_those_of_the_profiles(stand: Stand, encoder: str) -> None:
    """The script and the Python builder make the same engine; an encoder without tasks has no task_id."""
    deployment = deployed(encoder, Runtime.TENSORRT)
    write_build_script(stand.script, stand.candidate, deployment, "bf16")
    assert stand.run().returncode == 0
    arguments = stand.recorded.read_text().splitlines()
    for option, bound in (("min", "least"), ("opt", "optimal"), ("max", "most")):
        shapes = [one.split("=", 1)[1] for one in arguments if one.startswith(f"--{option}Shapes=")]
        read = [
            {name: tuple(map(int, size.split("x"))) for name, size in (part.split(":") for part in one.split(","))}
            for one in shapes
        ]
        assert read == [{name: getattr(one, bound) for name, one in item.items()} for item in profiles_of(deployment)]


def test_the_engine_and_what_built_it_are_handed_back(stand: Stand) -> None:
    """The check of the version reads what the script wrote."""
    write_build_script(stand.script, stand.candidate, SMALL, "bf16", EngineOptions(version_compatible=True))
    done = stand.run()
    assert "--versionCompatible" in stand.recorded.read_text().splitlines()
    assert read_record(stand.candidate) == EngineRecord("11.4.0", "NVIDIA H100 80GB HBM3", "9.0", True)
    assert (stand.candidate / "model.plan").read_text() == "engine\n"
    assert sorted(path.name for path in stand.candidate.iterdir()) == ["model.onnx", "model.plan", "model.plan.json"]
    assert done.stdout.splitlines()[-1] == f"built {stand.candidate}/model.plan"


def test_an_older_trtexec_tells_its_version_too(stand: Stand) -> None:
    """Leading zeros are no octal numbers."""
    write_build_script(stand.script, stand.candidate, SMALL, "fp16")
    assert stand.run(number="v100809").returncode == 0
    assert read_record(stand.candidate).tensorrt == "10.8.9"


@pytest.mark.parametrize(
    ("number", "trtexec_exit", "message"),
    [("v110400", 1, ""), ("unknown", 0, "cannot tell the version of TensorRT ('')")],
)
def test_a_failed_build_leaves_nothing_behind(stand: Stand, number: str, trtexec_exit: int, message: str) -> None:
    """Half an engine, or one that nobody can check, is not handed back."""
    write_build_script(stand.script, stand.candidate, SMALL, "bf16")
    done = stand.run(number=number, trtexec_exit=trtexec_exit)
    assert done.returncode == 1
    assert message in done.stderr
    assert [path.name for path in stand.candidate.iterdir()] == ["model.onnx"]


def test_wrong_use_is_told_apart(stand: Stand) -> None:
    """No folder, or one without a graph."""
    write_build_script(stand.script, stand.candidate, SMALL, "bf16")
    for arguments in ((str(stand.bin),), ("a", "b")):
        done = stand.run(*arguments)
        assert (done.returncode, done.stderr.startswith("usage: ")) == (2, True)


def test_a_machine_without_trtexec_is_told_which_image_has_it(stand: Stand) -> None:
    """The next step in the message."""
    write_build_script(stand.script, stand.candidate, SMALL, "bf16")
    (stand.bin / "trtexec").unlink()
    done = stand.run()
    assert done.returncode == 1
    assert "run this in nvcr.io/nvidia/tritonserver:" in done.stderr


def test_the_script_is_sound_shell(stand: Stand) -> None:
    """By bash's parser, by shellcheck where there is one, and with no placeholder left."""
    for options in (EngineOptions(), EngineOptions(version_compatible=True, timing_cache=Path("/with space/cache"))):
        write_build_script(stand.script, stand.candidate, SMALL, "bf16", options)
        assert subprocess.run(["bash", "-n", stand.script], check=False).returncode == 0
        text = stand.script.read_text()
        assert "@" not in text.replace('"${arguments[@]}"', "")
        if shellcheck := shutil.which("shellcheck"):
            assert subprocess.run([shellcheck, stand.script], check=False).returncode == 0
