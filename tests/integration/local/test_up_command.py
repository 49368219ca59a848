"""`duovec up` as a user runs it: the real PostgreSQL, Triton and gateway."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.client.client import Client
from gateway.errors import StartupError
from gateway.local.process import GatewayServer
from gateway.local.stack import Stack, StackSettings

DUOVEC = str(Path(sys.executable).with_name("duovec"))
Event = dict[str, Any]


class Up:
    """A running `duovec up --json`, read event by event."""

    def __init__(self, data_dir: Path, repository: Path, *options: str) -> None:
        arguments = ["up", "--data-dir", str(data_dir), "--repository", str(repository), "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [DUOVEC, *arguments, "--json", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.events: list[Event] = []

    def wait_for(self, name: str, **fields: object) -> Event:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event: Event = json.loads(line)
            self.events.append(event)
            if event["event"] == name and fields.items() <= event.items():
                return event
        raise AssertionError(f"no {name} {fields} among {self.events}; {self.finish()}")

    def finish(self) -> tuple[int, str]:
        """Exit code and stderr, after reading the events that are left."""
        stdout, stderr = self.process.communicate(timeout=60)
        self.events += map(json.loads, stdout.splitlines())
        return self.process.returncode, stderr

    def states(self, state: str) -> list[str]:
        return [event["part"] for event in self.events if event["event"] == "part" and event["state"] == state]


@pytest.fixture(autouse=True)
def config_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command keeps its key for others: not among the developer's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DUOVEC_API_KEY", raising=False)
    return tmp_path


@pytest.fixture
def up(data_dir: Path, published_models: Path) -> Iterator[Up]:
    with _running(data_dir, published_models) as command:
        yield command


@pytest.fixture
def two_gateways(data_dir: Path, published_models: Path) -> Iterator[Up]:
    with _running(data_dir, published_models, "--gateways", "2") as command:
        yield command


@contextlib.contextmanager
def _running(data_dir: Path, repository: Path, *options: str) -> Iterator[Up]:
    command = Up(data_dir, repository, *options)
    with command.process:
        try:
            yield command
        finally:
            if command.process.poll() is None:
                command.process.terminate()
                command.finish()


def _pids(up: Up) -> dict[str, int]:
    """The process of each part that became ready last."""
    return {e["part"]: e["pid"] for e in up.events if e["event"] == "part" and e["state"] == "ready"}


def _health(endpoint: str) -> int:
    """Ask over a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(endpoint, options) as channel:
        reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    return int(reply.status)


def _descendants(up: Up) -> list[psutil.Process]:
    return list(psutil.Process(up.process.pid).children(recursive=True))


def _still_running(processes: list[psutil.Process]) -> list[str]:
    _, alive = psutil.wait_procs(processes, timeout=20)
    return [process.name() for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def _stopped_by(up: Up, number: signal.Signals) -> bool:
    """Tell it to stop; whether it does in order, and leaves nothing behind."""
    processes = _descendants(up)
    up.process.send_signal(number)
    assert up.finish() == (0, "")
    assert up.states("stopped") == ["gateway", "triton", "postgres"]
    return _still_running(processes) == []


def test_it_serves_until_an_interrupt_and_a_second_on_its_data_is_refused(
    up: Up, data_dir: Path, published_models: Path
) -> None:
    ready = up.wait_for("ready")
    with _running(data_dir, published_models) as second:
        code, stderr = second.finish()
    assert code == 1
    assert f"error: duovec is already running on {data_dir}, as process {up.process.pid}" in stderr
    with grpc.insecure_channel(ready["endpoint"]) as channel:
        reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING
    assert _stopped_by(up, signal.SIGINT)


def test_commands_of_the_account_find_the_key_while_it_runs(up: Up, data_dir: Path, config_dir: Path) -> None:
    """Nobody types a key on their own machine; others on it, and other endpoints, get none."""
    ready = up.wait_for("ready")
    status = [DUOVEC, "status", "--json", "--endpoint", ready["endpoint"]]
    found = subprocess.run(status, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stderr) == (0, "")
    assert json.loads(found.stdout)["codebases"] == []
    [kept] = (config_dir / "duovec" / "keys").iterdir()
    admin_key = data_dir / "admin.key"
    assert ready["admin_key_file"] == str(admin_key)
    assert [path.stat().st_mode & 0o777 for path in (kept, admin_key)] == [0o600, 0o600]
    assert kept.read_text() == admin_key.read_text()
    without = subprocess.run(
        status, capture_output=True, text=True, timeout=60, env={**os.environ, "XDG_CONFIG_HOME": str(data_dir)}
    )
    assert without.returncode == 1
    assert "[API_KEY_MISSING]" in without.stderr
    assert _stopped_by(up, signal.SIGTERM)
    assert not kept.exists()
    secret = admin_key.read_text().strip().split("_")[2]
    assert all(secret not in log.read_text() for log in (data_dir / "logs").iterdir())
    assert secret not in json.dumps(up.events)


def _process_of_an_encoder(up: Up) -> psutil.Process:
    """One of those of Triton's Python backend."""
    triton = psutil.Process(_pids(up)["triton"])
    return next(process for process in triton.children() if "triton_python_backend_stub" in process.cmdline()[0])


def test_whatever_part_is_killed_is_started_again(up: Up) -> None:
    """Triton, too, when one of its processes is dead, which its own health does not tell."""
    ready = up.wait_for("ready")
    before = _pids(up)
    for part in ("postgres", "triton", "gateway"):
        os.kill(before[part], signal.SIGKILL)
        failed = up.wait_for("part", part=part, state="failed")
        assert failed["detail"].startswith(f"{part} died (killed by SIGKILL); its log is ")
        assert up.wait_for("part", part=part, state="ready")["pid"] != before[part]
    dead = _process_of_an_encoder(up)
    dead.kill()
    failed = up.wait_for("part", part="triton", state="failed")
    assert failed["detail"].startswith("triton does not answer (models/compact-")
    up.wait_for("part", part="triton", state="ready")
    with Client(ready["endpoint"], api_key=Path(ready["admin_key_file"]).read_text().strip()) as client:
        _until(lambda: client.health() == "SERVING")
        assert client.embed(["def f(): pass"], "passage").shape == (1, 2560)
    assert _stopped_by(up, signal.SIGTERM)


def test_a_part_that_does_not_start_again_ends_it_with_the_part_s_name(up: Up, data_dir: Path) -> None:
    up.wait_for("ready")
    processes = _descendants(up)
    (data_dir / "postgres" / "duovec.password").unlink()
    os.kill(_pids(up)["postgres"], signal.SIGKILL)
    error = up.wait_for("error")
    code, stderr = up.finish()
    assert code == 1
    assert error["part"] == "postgres"
    assert "error: postgres does not start again (" in stderr
    assert "is neither empty nor a data directory of duovec's PostgreSQL" in stderr
    assert error["log_tail"]
    assert up.states("failed") == ["postgres"] * 5
    assert _still_running(processes) == []


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("not within a minute")


def test_an_interrupt_while_it_starts_takes_back_what_has_started(up: Up) -> None:
    up.wait_for("part", part="triton", state="starting")
    up.process.send_signal(signal.SIGINT)
    assert up.finish() == (0, "")
    assert "gateway" not in up.states("ready")


def test_its_parts_stop_when_it_is_killed_itself(up: Up) -> None:
    up.wait_for("ready")
    processes = _descendants(up)
    assert len(processes) > 5
    up.process.kill()
    assert _still_running(processes) == []


def _serves_metrics(address: str) -> bool:
    with urllib.request.urlopen(f"http://{address}/metrics") as reply:
        return b"\nduovec_serving 1.0\n" in reply.read()


def test_two_gateways_share_the_port_and_one_goes_on_without_the_other(two_gateways: Up) -> None:
    """Each gets connections; when one is killed the other takes all new ones, until it is started again."""
    up = two_gateways
    ready = up.wait_for("ready")
    endpoint = ready["endpoint"]
    assert [_serves_metrics(address) for address in ready["metrics_endpoints"]] == [True, True]
    assert len(set(ready["metrics_endpoints"])) == 2
    before = _pids(up)
    host, port = endpoint.split(":")
    assert before["gateway"] != before["gateway-2"]
    with contextlib.ExitStack() as connections:
        for _ in range(40):
            connections.enter_context(socket.create_connection((host, int(port))))
        accepted: list[int] = []
        while sum(accepted) < 40:
            accepted = [
                sum(one.laddr.port == int(port) and one.status == "ESTABLISHED" for one in process.net_connections())
                for process in (psutil.Process(before["gateway"]), psutil.Process(before["gateway-2"]))
            ]
        assert min(accepted) > 0, "one chance in 10^12"

    os.kill(before["gateway"], signal.SIGKILL)
    failed = up.wait_for("part", part="gateway", state="failed")
    assert "gateway died (killed by SIGKILL); its log is " in failed["detail"]
    assert {_health(endpoint) for _ in range(20)} == {health_pb2.HealthCheckResponse.SERVING}
    again = up.wait_for("part", part="gateway", state="ready")
    assert again["pid"] != before["gateway"]
    assert [_serves_metrics(address) for address in ready["metrics_endpoints"]] == [True, True]
    assert {_health(endpoint) for _ in range(20)} == {health_pb2.HealthCheckResponse.SERVING}

    processes = _descendants(up)
    assert {before["gateway-2"], again["pid"]} <= {process.pid for process in processes}
    up.process.send_signal(signal.SIGTERM)
    assert up.finish() == (0, "")
    assert sorted(up.states("stopped")[:2]) == ["gateway", "gateway-2"]
    assert up.states("stopped")[2:] == ["triton", "postgres"]
    assert _still_running(processes) == []


async def test_a_second_gateway_on_the_port_is_refused_unless_both_share_it(
    data_dir: Path, published_models: Path
) -> None:
    """By mistake nobody gets half of somebody else's calls."""
    settings = StackSettings(data_dir=data_dir, model_repository=published_models, listen="127.0.0.1:0")
    async with Stack(settings) as stack:
        environment = {name: value for name, value in stack._gateway_environment.items() if name != "DUOVEC_LISTEN"}
        assert _health(stack.endpoint) == health_pb2.HealthCheckResponse.SERVING
        for reuse_port in ("false", "true"):  # the one that is there shares it with none
            second = GatewayServer(
                stack.endpoint,
                environment | {"DUOVEC_REUSE_PORT": reuse_port},
                log_path=data_dir / "second.log",
            )
            with pytest.raises(StartupError, match=f"cannot listen on {stack.endpoint}; set DUOVEC_LISTEN to a free"):
                await second.start()


def test_a_port_that_would_be_open_to_others_is_refused_before_anything_starts(
    data_dir: Path, published_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway itself would, once the backends had been started for nothing."""
    for name in ("DUOVEC_TLS_CERTIFICATE", "DUOVEC_ALLOW_INSECURE"):
        monkeypatch.delenv(name, raising=False)
    code, stderr = Up(data_dir, published_models, "--listen", "0.0.0.0:0").finish()
    assert code == 1
    assert "is neither loopback nor a unix socket, and without TLS all could be read on the way" in stderr
    assert list(data_dir.iterdir()) == []


def test_a_corrupt_model_is_named_before_anything_starts(
    data_dir: Path, published_models: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "models"
    shutil.copytree(published_models, repository, copy_function=os.symlink)
    version = max((repository / "compact-text").glob("[0-9]*"), key=lambda path: int(path.name))
    model = version / "model.onnx"
    model.unlink()
    model.write_bytes(b"not the graph that was published")
    with _running(data_dir, repository) as up:
        code, stderr = up.finish()
    assert code == 1
    assert f"error: {model} is corrupt" in stderr
    assert f"duovec-export publish --encoder compact-text --repository {repository}" in stderr
    assert up.states("starting") == ["models"]
