"""The Helm chart renders, by Helm's own engine, to objects that Kubernetes' schemas know and the code fits."""

import json
import re
from pathlib import Path
from typing import Any

import asyncpg
import kubernetes_validate
import pytest
import yaml
from deployed_commands import check_command
from dockerfile import stages
from helm_engine import HelmRefusal, run_helm
from tls_certificates import Authority

from export.spec import load_pair
from gateway.local import liveness
from gateway.settings import Settings
from gateway.telemetry.stages import Stage
from gateway.wire import triton_arguments, triton_trace_arguments

DEPLOY = Path(__file__).parents[2] / "deploy" / "helm"
CHART = DEPLOY / "duovec"
KUBERNETES = "1.37"
MESH: dict[str, Any] = {"gateway": {"allowInsecure": True}}
TLS: dict[str, Any] = {"gateway": {"tls": {"secretName": "duovec-tls", "clientCa": True}}}
FULL: dict[str, Any] = {
    **TLS,
    "images": {"triton": "nvcr.io/nvidia/tritonserver:26.07-py3"},
    "encoders": {"pair": "full", "code": "qodo-embed-1-1.5b", "text": "jina-embeddings-v3"},
    "triton": {"gpus": 1, "arguments": ["--rate-limit=execution_count"]},
    "export": {"runtime": "onnxruntime-cuda", "acceptLicense": True},
}
CA: dict[str, Any] = {**MESH, "database": {"caSecretName": "database-ca"}}
SYNC: dict[str, Any] = {
    **MESH,
    "models": {
        "source": "sync",
        "sync": {"image": "rclone/rclone:1.71", "command": ["rclone", "copy", "s3:b/m", "/models"]},
    },
    "autoscaling": {"enabled": False},
    "networkPolicy": {"enabled": False},
}
VALUES = {"mesh": MESH, "tls": TLS, "full": FULL, "ca": CA, "sync": SYNC}

Objects = dict[tuple[str, str], dict[str, Any]]


def render(values: dict[str, Any]) -> Objects:
    """Every object by its kind and name, as `helm template` gives it."""
    files = run_helm(CHART, values)["files"]
    documents = [
        document for name, text in files.items() if name.endswith(".yaml") for document in yaml.safe_load_all(text)
    ]
    return {(document["kind"], document["metadata"]["name"]): document for document in documents if document}


def container(objects: Objects, kind: str, name: str) -> dict[str, Any]:
    """The one container of a workload."""
    (found,) = objects[kind, name]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(found: dict[str, Any]) -> dict[str, str]:
    """The variables of a container; a secret's value is `given`."""
    return {one["name"]: one.get("value", "given") for one in found["env"]}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_every_object_is_valid(values: dict[str, Any]) -> None:
    """By the schemas of Kubernetes, with no key that they do not know."""
    objects = render(values)
    assert len(objects) >= 7
    for document in objects.values():
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    broken = objects["Deployment", "search-duovec-gateway"] | {"spec": {"replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)


def test_helm_lints_it() -> None:
    """Errors and warnings; what else it says is advice about icons."""
    found = run_helm(CHART, MESH)["lint"]
    assert found["errors"] == []
    assert [message for message in found["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "gateway.tls.secretName"),
        ({**MESH, "gatway": {}}, "gatway"),
        ({**MESH, "images": {"gateway": "duovec-gateway:latest"}}, "gateway"),
        ({"gateway": {**MESH["gateway"], "settings": {"DUOVEC_ADMIN_KEY": "secret"}}}, "DUOVEC_ADMIN_KEY"),
        ({**MESH, "models": {"source": "sync"}}, "models.sync.image"),
        ({"gateway": {**MESH["gateway"], "settings": {"DUOVEC_OWN_LISTEN": "127.0.0.1:1"}}}, "DUOVEC_OWN_LISTEN"),
        ({**MESH, "encoders": {"pair": "full"}}, "encoders.code"),
        ({**MESH, "autoscaling": {"maxReplicas": 1}}, "autoscaling.maxReplicas"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], said: str) -> None:
    """Unencrypted without being told so, a misspelt key, an image of no version, a secret, half a choice.

    Also what the chart sets itself, encoders that nobody publishes, and fewer gateways at most than at least.
    """
    with pytest.raises(HelmRefusal, match=re.escape(said)):
        render(values)


@pytest.mark.parametrize("values", [MESH, TLS, FULL], ids=["mesh", "tls", "full"])
@pytest.mark.parametrize("workload", [("Deployment", "search-duovec-gateway"), ("Job", "search-duovec-migrate")])
def test_variables_are_settings(
    values: dict[str, Any], workload: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the image and of the chart together: whole, and none that would be refused."""
    found = container(render(values), *workload)
    for name, value in (stages()["gateway"].environment | environment(found)).items():
        if name.startswith("DUOVEC_"):
            monkeypatch.setenv(name, value)
    settings = Settings.from_environment()
    pair = load_pair(values.get("encoders", {"pair": "compact"})["pair"])
    assert (settings.code_encoder, settings.text_encoder) == tuple(spec.name for spec in pair)
    assert settings.allow_insecure is (values is MESH)
    if workload[0] == "Deployment":
        ports = {port["name"]: port["containerPort"] for port in found["ports"]}
        assert settings.metrics_listen is not None and settings.http_listen is not None
        assert settings.listen.endswith(f":{ports['grpc']}")
        assert settings.http_listen.endswith(f":{ports['http']}")
        assert settings.metrics_listen.endswith(f":{ports['metrics']}")
        mounts = [mount["mountPath"] for mount in found["volumeMounts"]]
        for path in filter(None, (settings.model_repository, settings.tls_certificate, settings.tls_key)):
            assert str(path).startswith(tuple(mounts))


def test_secrets_come_by_reference() -> None:
    """No object of the chart is one, and the two values are read from secrets that are named."""
    objects = render(TLS)
    assert not [kind for kind, _ in objects if kind == "Secret"]
    found = container(objects, "Deployment", "search-duovec-gateway")
    assert {one["name"] for one in found["env"] if "valueFrom" in one} == {"DUOVEC_DATABASE_URL", "DUOVEC_ADMIN_KEY"}


@pytest.mark.parametrize("workload", [("Deployment", "search-duovec-gateway"), ("Job", "search-duovec-migrate")])
async def test_the_database_is_known_by_its_authority(
    workload: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URL that the values show takes one: without, the driver does not even try to connect."""
    objects = render(CA)
    pod = objects[workload]["spec"]["template"]["spec"]
    found = container(objects, *workload)
    path = environment(found)["PGSSLROOTCERT"]
    folder, _, name = path.rpartition("/")
    (volume,) = [mount["name"] for mount in found["volumeMounts"] if mount["mountPath"] == folder]
    (source,) = [one["secret"]["secretName"] for one in pod["volumes"] if one["name"] == volume]
    assert (source, name) == ("database-ca", "ca.crt")
    url = "postgresql://user:password@127.0.0.1:1/duovec?sslmode=verify-full"
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(asyncpg.ClientConfigurationError):
        await asyncpg.connect(url)
    (tmp_path / name).write_bytes(Authority.make().pem)
    monkeypatch.setenv("PGSSLROOTCERT", str(tmp_path / name))
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(url)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_commands_exist(values: dict[str, Any]) -> None:
    """Of every container that runs a program of ours, or Triton, and of the probe."""
    checked = []
    for document in render(values).values():
        for found in document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
            probe = found.get("readinessProbe", {}).get("exec", {}).get("command")
            for words in filter(None, (found.get("command"), probe)):
                check_command(words)
                checked.append(words[0])
    assert {"tritonserver", "python"} <= set(checked)
    assert ("duovec" in checked) is ("tls" in values["gateway"])


def test_triton_permits_the_pings_of_the_gateway() -> None:
    """Or else it hangs up on a gateway that waits in silence; the numbers are those of gateway/wire.py."""
    command = container(render(MESH), "Deployment", "search-duovec-triton")["command"]
    assert [word for word in command if word.startswith("--grpc")] == triton_arguments()


def test_triton_is_asked_for_real_rows() -> None:
    """By the file of `duovec up`, which is mounted where the probe looks for it, and has time for its answer."""
    objects = render(FULL)
    deployment = objects["Deployment", "search-duovec-triton"]["spec"]["template"]["spec"]
    (found,) = deployment["containers"]
    probe = found["livenessProbe"]
    interpreter, path = probe["exec"]["command"]
    assert interpreter == "python3"
    folder, _, name = path.rpartition("/")
    (volume,) = [mount["name"] for mount in found["volumeMounts"] if mount["mountPath"] == folder]
    (source,) = [one["configMap"]["name"] for one in deployment["volumes"] if one["name"] == volume]
    assert objects["ConfigMap", source]["data"] == {name: Path(liveness.__file__).read_text(encoding="utf-8")}
    assert probe["timeoutSeconds"] > 2 * liveness.TIMEOUT_S
    assert probe["failureThreshold"] == liveness.KILL_AFTER


@pytest.mark.parametrize("values", [MESH, TLS], ids=["mesh", "tls"])
def test_the_service_says_what_is_spoken(values: dict[str, Any]) -> None:
    """What balances calls would else speak plainly to a port that takes TLS."""
    ports = {one["name"]: one["appProtocol"] for one in render(values)["Service", "search-duovec"]["spec"]["ports"]}
    encrypted = {"grpc": "https", "http": "https"}
    assert ports == (encrypted if values is TLS else {"grpc": "kubernetes.io/h2c", "http": "http"})


def test_the_gateway_finds_every_triton() -> None:
    """Its address is the name of a service without an address of its own: it resolves to the pods."""
    objects = render(MESH)
    host, _, port = environment(container(objects, "Deployment", "search-duovec-gateway"))[
        "DUOVEC_TRITON_URL"
    ].partition(":")
    service = objects["Service", host]["spec"]
    assert service["clusterIP"] == "None"
    assert [str(one["port"]) for one in service["ports"]] == [port]
    assert service["selector"].items() <= objects["Deployment", host]["spec"]["template"]["metadata"]["labels"].items()


def test_the_gpu_is_asked_for() -> None:
    """And heeded: Triton takes turns on it."""
    found = container(render(FULL), "Deployment", "search-duovec-triton")
    assert found["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "--rate-limit=execution_count" in found["command"]
    assert "nvidia.com/gpu" not in json.dumps(render(MESH)["Deployment", "search-duovec-triton"])


def test_every_selector_selects() -> None:
    """Of services, budgets and policies: the labels of one of the workloads."""
    objects = render(MESH)
    labels = [
        document["spec"]["template"]["metadata"]["labels"].items()
        for (kind, _), document in objects.items()
        if kind == "Deployment"
    ]
    checked = 0
    for (kind, name), document in objects.items():
        spec = document.get("spec", {})
        if kind in {"Service", "PodDisruptionBudget", "NetworkPolicy"}:
            selector = spec["podSelector"] if kind == "NetworkPolicy" else spec["selector"]
            wanted = selector if kind == "Service" else selector["matchLabels"]
            assert sum(wanted.items() <= those for those in labels) == 1, name
            checked += 1
    assert checked == 6


def test_nothing_runs_as_root_or_knows_kubernetes() -> None:
    """Every pod."""
    pods = [
        document["spec"]["template"]["spec"]
        for document in render(FULL).values()
        if "template" in document.get("spec", {})
    ]
    assert len(pods) == 4
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for found in (*pod["containers"], *pod.get("initContainers", [])):
            assert found["securityContext"]["allowPrivilegeEscalation"] is False
            assert found["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_a_pod_has_time_to_drain() -> None:
    """The grace period covers the wait before SIGTERM and what the gateway allows its requests."""
    pod = render(MESH)["Deployment", "search-duovec-gateway"]["spec"]["template"]["spec"]
    waits = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > waits + Settings.model_fields["drain_s"].default + 15


@pytest.mark.parametrize("pair", ["compact", "full"])
def test_the_chart_knows_what_a_pair_publishes(pair: str) -> None:
    """By the names of its encoders, or no release of it could be made."""
    code, text = (spec.name for spec in load_pair(pair))
    assert render({**MESH, "encoders": {"pair": pair, "code": code, "text": text}})


def test_a_longer_drain_has_its_time() -> None:
    """What an operator lets requests take is added; else Kubernetes would kill what still answers."""

    def grace(**settings: str) -> int:
        values = {"gateway": {**MESH["gateway"], "settings": settings}}
        pod = render(values)["Deployment", "search-duovec-gateway"]["spec"]["template"]["spec"]
        return int(pod["terminationGracePeriodSeconds"])

    assert grace(DUOVEC_DRAIN_S="120") == grace() + 110
    assert grace(DUOVEC_DRAIN_S="0.5") == grace() - 9


@pytest.mark.parametrize(
    ("settings", "ports"),
    [
        ({}, []),
        ({"DUOVEC_OTLP_ENDPOINT": "http://collector.traces:4317"}, [4317]),
        ({"DUOVEC_OTLP_ENDPOINT": "https://10.1.2.3:14317/"}, [14317]),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://10.1.2.3"}, [443]),
    ],
)
def test_traces_reach_their_collector(settings: dict[str, str], ports: list[int]) -> None:
    """The policy of the gateways lets out what their settings send."""
    objects = render({"gateway": {**MESH["gateway"], "settings": settings}})
    egress = objects["NetworkPolicy", "search-duovec-gateway"]["spec"]["egress"]
    let_out = [one["port"] for rule in egress for one in rule["ports"]]
    assert let_out == [53, 53, 8001, 5432, *ports]
    kubernetes_validate.validate(objects["NetworkPolicy", "search-duovec-gateway"], KUBERNETES, strict=True)


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://collector.traces:4318/v1/traces", 4318),
        ("http://collector/v1/traces", 80),
        ("https://10.1.2.3/v1/traces", 443),
    ],
)
def test_triton_s_own_traces_reach_their_collector(url: str, port: int) -> None:
    """By the words of `duovec up`, and through the policy, which lets nothing out else."""
    objects = render({**MESH, "triton": {"tracesUrl": url}})
    command = container(objects, "Deployment", "search-duovec-triton")["command"]
    assert [word for word in command if word.startswith("--trace")] == triton_trace_arguments(url)
    for values, ports in ((MESH, [53, 53]), ({**MESH, "triton": {"tracesUrl": url}}, [53, 53, port])):
        policy = render(values)["NetworkPolicy", "search-duovec-triton"]
        assert [one["port"] for rule in policy["spec"]["egress"] for one in rule["ports"]] == ports
        kubernetes_validate.validate(policy, KUBERNETES, strict=True)


def test_the_alert_of_gateways_that_are_down_knows_the_chart_s() -> None:
    """By the pods' labels, as Prometheus writes their names: only deploy/prometheus names the job `duovec`."""
    rules = yaml.safe_load((DEPLOY.parent / "prometheus/alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    (down,) = [rule["expr"] for rule in rules if rule["alert"] == "DuovecDown"]
    asked = dict(re.findall(r'(app_kubernetes_io_\w+)="([^"]*)"', down))
    labels = render(MESH)["Deployment", "search-duovec-gateway"]["spec"]["template"]["metadata"]["labels"]
    written = {re.sub(r"\W", "_", name): value for name, value in labels.items()}
    assert asked == {name: written[name] for name in ("app_kubernetes_io_name", "app_kubernetes_io_component")}


def test_the_gateways_scale_by_a_metric_that_is_made() -> None:
    """Of the histogram that a gateway exports, under the label of the stage that waits."""
    (metric,) = render(MESH)["HorizontalPodAutoscaler", "search-duovec-gateway"]["spec"]["metrics"]
    (rule,) = yaml.safe_load((DEPLOY / "prometheus-adapter.yaml").read_text(encoding="utf-8"))["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    collector = (Path(__file__).parents[2] / "gateway/telemetry/collector.py").read_text(encoding="utf-8")
    for query in (rule["seriesQuery"], rule["metricsQuery"]):
        for series in re.findall(r"duovec_\w+", query):
            assert f'"{re.sub("_(sum|count)$", "", series)}"' in collector
    assert set(re.findall(r'stage="(\w+)"', rule["metricsQuery"])) == {Stage.QUEUE}
