"""docker-compose.yml is well formed and names what exists. It was not run: no Docker engine was at hand."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from compose_spec.models import ComposeSpecification
from deployed_commands import check_command, environment_variables
from dockerfile import stages

from export.spec import load_pair
from export.tensorrt_script import TRITON_IMAGE
from gateway.client.client import Client
from gateway.local import liveness
from gateway.settings import Settings
from gateway.wire import ALLOW_INSECURE, triton_arguments

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
PROFILES = {"cpu": "compact", "gpu": "full"}
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])(.*?))?\}")


def document() -> dict[str, Any]:
    """The file with its anchors merged, as Compose reads it."""
    whole: dict[str, Any] = yaml.safe_load(TEXT)
    return {name: part for name, part in whole.items() if not name.startswith("x-")}


SERVICES: dict[str, dict[str, Any]] = document()["services"]


def of_profile(profile: str) -> dict[str, dict[str, Any]]:
    """The services that start under a profile."""
    return {name: service for name, service in SERVICES.items() if profile in service.get("profiles", [profile])}


def names_on_the_network(profile: str) -> dict[str, str]:
    """Every name that resolves under a profile, and whose it is."""
    found = {}
    for name, service in of_profile(profile).items():
        for alias in (name, *service.get("networks", {}).get("default", {}).get("aliases", [])):
            assert alias not in found, f"two services are called {alias}"
            found[alias] = name
    return found


def interpolated(value: str) -> str:
    """A value as Compose gives it where every variable without a default is `given`."""
    return VARIABLE.sub(lambda match: match[3] if match[2] == "-" else "given", value)


def command_of(name: str) -> list[str]:
    """What a service runs, with a given license."""
    return [interpolated(word) for word in SERVICES[name].get("command", [])]


def test_it_is_a_compose_file() -> None:
    """By two readers: one that knows every key, one made from the specification's own schema."""
    text = yaml.safe_dump(document())
    ComposeSpecification.model_validate(PyCompose.from_yaml(text).to_dict())
    with pytest.raises(ValueError, match="healthchek"):
        PyCompose.from_yaml(text.replace("healthcheck", "healthchek"))


def test_services() -> None:
    """All of the stack, twice where CPU and GPU differ."""
    twice = {f"{part}-{profile}" for part in ("export", "triton", "gateway", "worker") for profile in PROFILES}
    assert set(SERVICES) == {*twice, "postgres", "prometheus", "grafana"}


def test_images_are_built_here_or_pinned() -> None:
    """A stage of the Dockerfile with arguments that it takes, or a tag that is not `latest`."""
    built = stages()
    for service in SERVICES.values():
        if build := service.get("build"):
            stage = built[build["target"]]
            assert set(build.get("args", {})) <= {line.split("=")[0] for line in stage.all("ARG")}
        else:
            assert re.search(r":(?!latest$)[\w.-]+$", service["image"])


def test_one_image_has_one_build() -> None:
    """Or which of them a tag means would be a matter of chance."""
    builds: dict[str, list[Any]] = {}
    for service in SERVICES.values():
        if "build" in service:
            builds.setdefault(service["image"], []).append(service["build"])
    assert all(build == same[0] for same in builds.values() for build in same)


def test_every_published_port_is_on_loopback() -> None:
    """Of what has a password or a key; Triton has none, and is reached by the other containers alone."""
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert {name.split("-")[0] for name in ports} == {"gateway", "prometheus", "grafana"}
    assert [port for several in ports.values() for port in several if not port.startswith("127.0.0.1:")] == []


def test_every_volume_exists() -> None:
    """A path of the repository, mounted for reading, or a volume that is declared."""
    declared = set(document()["volumes"])
    used = set()
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source, _, rest = volume.partition(":")
            if source.startswith("."):
                assert (ROOT / source).exists(), source
                assert rest.endswith(":ro")
            else:
                used.add(source)
    assert used == declared


def test_a_container_that_may_not_write_has_a_place_for_what_is_temporary() -> None:
    """Read-only, without capabilities, and /tmp in memory: everything of ours but Triton's image."""
    ours = [service for name, service in SERVICES.items() if name.split("-")[0] in {"export", "gateway", "worker"}]
    assert len(ours) == 6
    assert all(
        service["read_only"] and service["tmpfs"] == ["/tmp"] and service["cap_drop"] == ["ALL"] for service in ours
    )


def test_no_secret_stands_in_the_file() -> None:
    """Each comes from .env, whose example names it and holds none."""
    example = dict(
        line.split("=", 1)
        for line in (ROOT / "deploy/compose.env.example").read_text(encoding="utf-8").splitlines()
        if "=" in line and not line.startswith("#")
    )
    assert set(example.values()) == {""}
    assert {match[1] for match in VARIABLE.finditer(TEXT)} == set(example)
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|KEY|TOKEN|SECRET", variable):
                assert re.fullmatch(r"\$\{\w+:\?[^}]*\}", value), (name, variable)
    assert ".env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("profile", PROFILES)
def test_the_gateway_starts_with_its_variables(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the image and of the file together are settings, whole and allowed."""
    gateway = SERVICES[f"gateway-{profile}"]
    environment = stages()["gateway"].environment | gateway["environment"]
    for name, value in environment.items():
        if name.startswith("DUOVEC_"):
            monkeypatch.setenv(name, interpolated(value))
    settings = Settings.from_environment()
    assert (settings.code_encoder, settings.text_encoder) == tuple(spec.name for spec in load_pair(PROFILES[profile]))
    assert settings.http_listen is not None
    listened = [address.rpartition(":")[2] for address in (settings.listen, settings.http_listen)]
    assert [port.split(":")[-1] for port in gateway["ports"]] == listened
    assert f"models:{settings.model_repository}:ro" in gateway["volumes"]
    assert float(gateway["stop_grace_period"].removesuffix("s")) > settings.drain_s


@pytest.mark.parametrize("name", [name for name in SERVICES if name.split("-")[0] in {"export", "triton", "worker"}])
def test_commands_parse(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the programs' own parsers; what the environment gives may be missing on the command line.

    The client of a worker takes its endpoint, which no certificate guards.
    """
    words, environment = command_of(name), SERVICES[name].get("environment", {})
    if ALLOW_INSECURE in environment:
        monkeypatch.setenv(ALLOW_INSECURE, environment[ALLOW_INSECURE])
    if name.startswith("worker"):
        read = environment_variables([*words, "--database-url", ""]) | {"DUOVEC_API_KEY", ALLOW_INSECURE}
        assert {variable for variable in environment if variable.startswith("DUOVEC_")} <= read
        words = [*words, "--database-url", environment["DUOVEC_DATABASE_URL"]]
        (endpoint,) = (word.partition("=")[2] for word in words if word.startswith("--endpoint="))
        Client(endpoint, api_key=environment["DUOVEC_API_KEY"]).close()
    check_command(words)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_address_is_somebody_s(profile: str) -> None:
    """A host in a variable or an option is a name on the network, and its port is listened on."""
    names = names_on_the_network(profile)
    ports = {"postgres": "5432", "triton": "8001", "gateway": "50051"}
    found = set()
    for service_name, service in of_profile(profile).items():
        words = [*service.get("environment", {}).values(), *command_of(service_name)]
        for host, port in re.findall(r"(?:^|[@=/])([a-z][a-z-]*):(\d{4,5})\b", "\n".join(words), re.MULTILINE):
            assert host in names, (service_name, host)
            assert ports[host] == port
            found.add(host)
    assert found == set(ports)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_start_has_an_order(profile: str) -> None:
    """Models, Triton with PostgreSQL, the gateway, who calls it: each waits for a check that exists."""
    services, built = of_profile(profile), stages()
    order = {name: list(service.get("depends_on", {})) for name, service in services.items()}
    assert order[f"triton-{profile}"] == [f"export-{profile}"]
    assert order[f"gateway-{profile}"] == ["postgres", f"triton-{profile}"]
    assert order[f"worker-{profile}"] == [f"gateway-{profile}"]
    for service in services.values():
        for name, how in service.get("depends_on", {}).items():
            needed = services[name]
            if how["condition"] == "service_completed_successfully":
                assert needed["restart"] == "no"
            else:
                assert how["condition"] == "service_healthy"
                assert "healthcheck" in needed or built[needed["build"]["target"]].health_check()


@pytest.mark.parametrize(("profile", "pair"), PROFILES.items())
def test_each_profile_exports_and_loads_its_pair(profile: str, pair: str) -> None:
    """Explicit model control: only so can a version be published beside the served one."""
    command = command_of(f"triton-{profile}")
    assert re.findall(r"--load-model=(\S+)", " ".join(command)) == [spec.name for spec in load_pair(pair)]
    assert "--model-control-mode=explicit" in command
    assert f"--pair={pair}" in command_of(f"export-{profile}")
    (repository,) = re.findall(r"--model-repository=(\S+)", " ".join(command))
    mounted = f"models:{repository}"
    assert mounted in SERVICES[f"export-{profile}"]["volumes"]
    assert f"{mounted}:ro" in SERVICES[f"triton-{profile}"]["volumes"]


@pytest.mark.parametrize("profile", PROFILES)
def test_triton_is_asked_for_real_rows_and_killed_where_it_gives_none(profile: str) -> None:
    """By the file of `duovec up`, mounted where the check looks for it; Docker starts again what ends, and no other."""
    triton = SERVICES[f"triton-{profile}"]
    _, interpreter, path, *options = triton["healthcheck"]["test"]
    assert interpreter == "python3"
    (source,) = [volume.split(":")[0] for volume in triton["volumes"] if volume.split(":")[1] == path]
    asked = subprocess.run(
        [sys.executable, ROOT / source, "--url", "http://127.0.0.1:9", *options], capture_output=True, text=True
    )
    assert (asked.returncode, asked.stderr.count("\n")) == (1, 1)
    assert asked.stderr.startswith("Triton is not alive: ")
    assert "--kill-after" in options
    assert triton["init"] is True
    assert triton["restart"] == "unless-stopped"
    assert float(triton["healthcheck"]["timeout"].removesuffix("s")) > 2 * liveness.TIMEOUT_S


@pytest.mark.parametrize("profile", PROFILES)
def test_triton_permits_the_pings_of_the_gateway(profile: str) -> None:
    """Or else it hangs up on a gateway that waits in silence; the numbers are those of gateway/wire.py."""
    assert [word for word in command_of(f"triton-{profile}") if word.startswith("--grpc")] == triton_arguments()


def test_a_shared_gpu_is_reserved_and_taken_in_turns() -> None:
    """Exactly where a configuration asks for a GPU; Triton heeds the rate limiter only when told to."""
    for profile, pair in PROFILES.items():
        configs = [(ROOT / "model_repository" / spec.name / "config.pbtxt").read_text() for spec in load_pair(pair)]
        on_gpu = {"KIND_GPU" in config and "rate_limiter" in config for config in configs}
        assert on_gpu == {"--rate-limit=execution_count" in command_of(f"triton-{profile}")}
        assert on_gpu == {"deploy" in SERVICES[f"triton-{profile}"]}


def test_the_build_script_of_an_engine_names_the_same_image() -> None:
    """An engine runs on the TensorRT that built it: the one in the image that serves."""
    assert SERVICES["triton-gpu"]["image"] == TRITON_IMAGE


@pytest.mark.parametrize("profile", PROFILES)
def test_prometheus_finds_its_files_and_the_gateway(profile: str) -> None:
    """What its configuration names is mounted beside it, and the target is where the gateway's metrics are."""
    mounted = {
        target: ROOT / source
        for source, target, _ in (volume.split(":") for volume in SERVICES["prometheus"]["volumes"] if ":ro" in volume)
    }
    (file,) = re.findall(r"--config.file=(\S+)", " ".join(command_of("prometheus")))
    configuration = yaml.safe_load(mounted[file].read_text(encoding="utf-8"))
    (job,) = configuration["scrape_configs"]
    (targets,) = job["file_sd_configs"][0]["files"]
    folder = file.rpartition("/")[0]
    assert {f"{folder}/{name}" for name in (*configuration["rule_files"], targets)} <= set(mounted)
    (target,) = yaml.safe_load(mounted[f"{folder}/{targets}"].read_text(encoding="utf-8"))[0]["targets"]
    host, _, port = target.partition(":")
    gateway = SERVICES[names_on_the_network(profile)[host]]
    assert gateway["environment"]["DUOVEC_METRICS_LISTEN"].endswith(f":{port}")


def test_grafana_finds_its_files_and_prometheus() -> None:
    """Its folders are mounted where the provisioning says, and the source of data is the service."""
    mounted = {volume.split(":")[1]: ROOT / volume.split(":")[0] for volume in SERVICES["grafana"]["volumes"]}
    provisioning = mounted["/etc/grafana/provisioning"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/duovec.yml").read_text(encoding="utf-8"))["providers"]
    assert list(mounted[provider["options"]["path"]].glob("*.json"))
    sources = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text(encoding="utf-8"))["datasources"]
    assert [source["url"] for source in sources] == ["http://prometheus:9090"]
    assert SERVICES["prometheus"]["ports"] == ["127.0.0.1:9090:9090"]
