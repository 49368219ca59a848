"""docker-compose.yml names what exists. It was not run: there is no Docker where these tests run."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from export.spec import load_pair
from export.tensorrt_script import TRITON_IMAGE
from gateway.settings import Settings
from gateway.wire import triton_arguments

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file, parsed."""
    document: dict[str, Any] = yaml.safe_load(TEXT)
    return document


def test_services_and_their_images(compose: dict[str, Any]) -> None:
    """Every image carries a tag that is not `latest`."""
    images = {name: service["image"] for name, service in compose["services"].items()}
    assert set(images) == {"postgres", "triton-compact", "triton-full"}
    assert all(re.search(r":(?!latest$)[\w.-]+$", image) for image in images.values())


def test_every_port_is_on_loopback(compose: dict[str, Any]) -> None:
    """There is no authentication in front of either service."""
    ports = [port for service in compose["services"].values() for port in service["ports"]]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_every_volume_exists(compose: dict[str, Any]) -> None:
    """A volume is a path of the repository, or declared below."""
    sources = [volume.split(":")[0] for one in compose["services"].values() for volume in one["volumes"]]
    folders = [source for source in sources if source.startswith(".")]
    assert set(folders) == {"./model_repository"}
    assert all((ROOT / folder).is_dir() for folder in folders)
    assert set(sources) - set(folders) == set(compose["volumes"])


def test_variables_are_settings_of_the_gateway() -> None:
    """The comment that starts the gateway gives it what it requires, and nothing that it does not know."""
    named = set(re.findall(r"\bDUOVEC_([A-Z_]+)", TEXT))
    fields = {name.upper(): field.is_required() for name, field in Settings.model_fields.items()}
    assert named <= set(fields)
    assert {name for name, required in fields.items() if required} <= named


@pytest.mark.parametrize("pair", ["compact", "full"])
def test_each_profile_loads_its_pair(compose: dict[str, Any], pair: str) -> None:
    """One of the two Tritons runs, and only on request: both take the same port."""
    service = compose["services"][f"triton-{pair}"]
    assert service["profiles"] == [pair]
    loaded = re.findall(r"--load-model=(\S+)", " ".join(service["command"]))
    assert loaded == [spec.name for spec in load_pair(pair)]
    assert "--model-control-mode=explicit" in " ".join(service["command"])


@pytest.mark.parametrize("pair", ["compact", "full"])
def test_triton_permits_the_pings_of_the_gateway(compose: dict[str, Any], pair: str) -> None:
    """Or else it hangs up on a gateway that waits in silence; the numbers are those of gateway/wire.py."""
    words = " ".join(compose["services"][f"triton-{pair}"]["command"]).split()
    assert [word for word in words if word.startswith("--grpc")] == triton_arguments()


def test_a_shared_gpu_is_reserved_and_taken_in_turns(compose: dict[str, Any]) -> None:
    """Exactly where a configuration asks for a GPU; Triton heeds the rate limiter only when told to."""
    for pair in ("compact", "full"):
        configs = [(ROOT / "model_repository" / spec.name / "config.pbtxt").read_text() for spec in load_pair(pair)]
        on_gpu = {"KIND_GPU" in config and "rate_limiter" in config for config in configs}
        service = compose["services"][f"triton-{pair}"]
        assert on_gpu == {"--rate-limit=execution_count" in service["command"]}
        assert on_gpu == {"deploy" in service}


def test_the_build_script_of_an_engine_names_the_same_image(compose: dict[str, Any]) -> None:
    """An engine runs on the TensorRT that built it: the one in the image that serves."""
    assert compose["services"]["triton-full"]["image"] == TRITON_IMAGE


def test_triton_has_the_pinned_runtime(compose: dict[str, Any]) -> None:
    """The same OpenVINO as on a developer's machine."""
    command = " ".join(compose["services"]["triton-compact"]["command"])
    pinned = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (openvino,) = re.findall(r"openvino==\S+", command)
    assert openvino in pinned["local"]
