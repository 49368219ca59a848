"""The Dockerfile is well formed, and every path, package, variable and command in it exists. It was not built."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pathspec
import pytest
from deployed_commands import check_command
from dockerfile import ROOT, Stage, stages

from export.tensorrt_script import TRITON_IMAGE
from gateway.settings import Settings

STAGES = stages()
IMAGES = ("gateway", "trainer", "triton")


def image(name: str) -> Stage:
    """A stage that becomes an image."""
    return STAGES[name]


def test_hadolint_finds_nothing() -> None:
    """The linter's binary comes from the package of that name."""
    hadolint = Path(sys.executable).with_name("hadolint")
    run = subprocess.run([hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "")


def test_every_copied_path_exists_and_reaches_the_builder() -> None:
    """.dockerignore shuts out everything, and lets in what is copied."""
    ignored = pathspec.GitIgnoreSpec.from_lines((ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines())
    copied = [
        word
        for stage in STAGES.values()
        for line in stage.all("COPY")
        if "--from=" not in line
        for word in line.split()[:-1]
    ]
    assert {"gateway", "protos", "pyproject.toml", "requirements/gateway.txt"} <= set(copied)
    for word in copied:
        path = ROOT / word
        assert path.exists(), word
        inside = path / "__init__.py" if (path / "__init__.py").exists() else path
        assert not ignored.match_file(str(inside.relative_to(ROOT))), word
    assert ignored.match_file("tests/conftest.py")
    assert ignored.match_file(".duovec/admin.key")


def test_every_package_of_ours_is_in_the_wheel() -> None:
    """What pyproject.toml packages is what the stage copies."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {name.rstrip("*") for name in pyproject["tool"]["setuptools"]["packages"]["find"]["include"]}
    copied = {line.split()[0] for line in STAGES["wheel"].all("COPY")}
    assert packages - {"duovec", "tei"} | {"protos"} <= copied


def test_packages_come_by_hash_or_are_ours() -> None:
    """No line installs by a name alone."""
    installs = [
        command
        for stage in STAGES.values()
        for line in stage.all("RUN")
        for command in re.split(r"&&|;", line)
        if " install " in command and "pip" in command
    ]
    assert len(installs) >= 7
    assert [line for line in installs if "--require-hashes" not in line and "--no-index" not in line] == []
    files = {word for line in installs for word in re.findall(r"/(requirements/[\w$-]+\.txt)", line)}
    assert {name for name in files if "$" not in name and not (ROOT / name).is_file()} == set()


@pytest.mark.parametrize("torch", ["cpu", "cuda"])
def test_each_torch_has_its_lock(torch: str) -> None:
    """The build argument TORCH names a file, and both are copied before."""
    name = f"requirements/torch-{torch}.txt"
    assert (ROOT / name).is_file()
    assert any(name in line for line in image("trainer").all("COPY"))


@pytest.mark.parametrize("name", IMAGES)
def test_nothing_runs_as_root(name: str) -> None:
    """Kubernetes checks runAsNonRoot by the number."""
    assert image(name).all("USER") == ["10001:10001"]


def test_the_gateway_has_neither_torch_nor_a_compiler() -> None:
    """Nor what exports and trains; its packages are wheels."""
    locked = (ROOT / "requirements" / "gateway.txt").read_text(encoding="utf-8")
    assert re.search(r"^(torch|onnx|openvino|transformers)\b", locked, re.MULTILINE) is None
    assert "gcc" not in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (install,) = [line for line in STAGES["gateway-packages"].all("RUN") if "gateway.txt" in line]
    assert "--only-binary :all:" in install
    removed = " ".join(STAGES["gateway-packages"].all("RUN"))
    assert {"export", "training"} <= set(re.findall(r"site-packages/(\w+)", removed))


def test_the_gateway_s_variables_are_settings() -> None:
    """A name that is none would be refused at the start."""
    named = {
        name.removeprefix("DUOVEC_").lower() for name in image("gateway").environment if name.startswith("DUOVEC_")
    }
    assert named <= set(Settings.model_fields)
    assert {"listen", "own_listen", "model_repository"} <= named


@pytest.mark.parametrize("name", ["gateway", "trainer"])
def test_the_command_exists(name: str) -> None:
    """And takes its words; what is missing of the worker's options, the environment gives."""
    words = image(name).words("CMD")
    check_command(words if name == "gateway" else [*words, "--database-url", "postgresql://"])


def test_health_is_asked_where_the_gateway_answers_without_a_certificate() -> None:
    """By a command that exists, at the address of its own that the image sets."""
    words = image("gateway").health_check()
    check_command(words)
    assert words[words.index("--endpoint") + 1] == image("gateway").environment["DUOVEC_OWN_LISTEN"]


def test_the_ports_are_those_that_are_listened_on() -> None:
    """EXPOSE says what DUOVEC_LISTEN and DUOVEC_HTTP_LISTEN do."""
    listened = [image("gateway").environment[f"DUOVEC_{name}"].rpartition(":")[2] for name in ("LISTEN", "HTTP_LISTEN")]
    assert image("gateway").all("EXPOSE") == [" ".join(listened)]


def test_triton_is_the_one_that_engines_are_built_for() -> None:
    """An engine runs on the TensorRT that built it."""
    assert image("triton").base == TRITON_IMAGE


def test_triton_has_the_pinned_runtime() -> None:
    """The same OpenVINO as on a developer's machine."""
    pinned = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    locked = (ROOT / "requirements" / "triton.txt").read_text(encoding="utf-8")
    (openvino,) = re.findall(r"^(openvino==\S+)", locked, re.MULTILINE)
    assert openvino in pinned["local"]
