"""Child processes end with their parent, with their group, and are noticed when they die."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from gateway.errors import StartupError
from gateway.local import process
from gateway.local.process import (
    ChildProcess,
    GatewayServer,
    check_port_is_free,
    describe_exit,
    free_port,
    split_address,
    wait_for_listener,
)
from gateway.settings import Settings

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def _python(code: str, log_path: Path) -> ChildProcess:
    return ChildProcess("the child", [sys.executable, "-c", code], env=os.environ, log_path=log_path)


def _is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _poll(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.01)


def _first_line(path: Path) -> str:
    """The first line of a log, waited for; blocks."""
    _poll(lambda: path.exists() and path.read_text().endswith("\n"))
    return path.read_text().strip()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """One on which nobody listens, nor can begin to."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


async def test_its_exit_code_and_its_last_words_are_kept(tmp_path: Path) -> None:
    child = _python("print('one'); print('two'); raise SystemExit(3)", tmp_path / "log")
    await child.start()
    assert await child.wait() == 3
    assert child.log_tail(1) == "two"
    assert not child.is_running


async def test_the_log_of_the_run_before_is_kept_beside(tmp_path: Path) -> None:
    for word in ("first", "second"):
        child = _python(f"print('{word}')", tmp_path / "log")
        await child.start()
        await child.wait()
    assert (tmp_path / "log").read_text() == "second\n"
    assert (tmp_path / "log.1").read_text() == "first\n"


async def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    child = _python(STUBBORN, tmp_path / "log")
    await child.start()
    await asyncio.to_thread(_first_line, tmp_path / "log")
    await child.stop(grace_s=0.1)
    assert await child.wait() == -signal.SIGKILL


async def test_its_own_children_die_with_it_even_when_it_is_killed(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time; "
        "grandchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        "print(grandchild.pid, flush=True); time.sleep(60)"
    )
    child = _python(code, tmp_path / "log")
    await child.start()
    grandchild = int(await asyncio.to_thread(_first_line, tmp_path / "log"))
    os.kill(child.pid, signal.SIGKILL)
    assert await child.wait() == -signal.SIGKILL
    await asyncio.to_thread(_poll, lambda: _is_gone(grandchild))


def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent_code = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from gateway.local.process import ChildProcess\n"
        "async def main():\n"
        "    child = ChildProcess('c', ['sleep', '60'], env=os.environ, log_path=Path(sys.argv[1]))\n"
        "    await child.start()\n"
        "    print(child.pid, flush=True)\n"
        "    await child.wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent_code, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child_pid = int(parent.stdout.readline())
        _poll(lambda: psutil.Process(child_pid).name() == "sleep")
        parent.kill()
    _poll(lambda: _is_gone(child_pid))


async def test_waiting_for_readiness_ends_when_the_child_exits(tmp_path: Path, silent_port: int) -> None:
    child = _python("raise SystemExit(7)", tmp_path / "log")
    await child.start()
    assert await child.wait_ready(wait_for_listener("127.0.0.1", silent_port), timeout_s=60) == 7


async def test_waiting_for_readiness_has_an_end(tmp_path: Path, silent_port: int) -> None:
    child = _python("import time; time.sleep(60)", tmp_path / "log")
    await child.start()
    with pytest.raises(TimeoutError, match=r"the child was not ready after 0\.1 s"):
        await child.wait_ready(wait_for_listener("127.0.0.1", silent_port), timeout_s=0.1)
    await child.stop(grace_s=5)


async def test_a_gateway_has_the_time_that_it_was_told_to_drain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And some to end: killed before, it would break off calls that it was to finish."""
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "server.py").write_text(STUBBORN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(process, "_END_S", 0.5)
    gateway = GatewayServer("127.0.0.1:0", {"DUOVEC_DRAIN_S": "1.5"}, log_path=tmp_path / "log")
    await gateway._process.start()
    await asyncio.to_thread(_first_line, tmp_path / "log")
    began_at = time.monotonic()
    await gateway.stop()
    assert 2 <= time.monotonic() - began_at < 10
    assert await gateway.wait() == -signal.SIGKILL


def test_a_gateway_that_was_told_nothing_drains_as_its_settings_say() -> None:
    assert process._drain_s({}) == Settings.model_fields["drain_s"].default
    assert process._drain_s({"DUOVEC_DRAIN_S": "soon"}) == process._drain_s({})


def test_a_taken_port_names_its_holder() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(StartupError, match=rf"port {port} is in use by process {os.getpid()} \("):
            check_port_is_free(f"127.0.0.1:{port}")


def test_a_free_port_passes() -> None:
    check_port_is_free(f"127.0.0.1:{free_port()}")


def test_a_free_port_is_given_to_nobody_else() -> None:
    """Neither by us nor by the system, of whose ports this draws every tenth one; a server may take it."""
    given = [free_port() for _ in range(500)]
    assert len(set(given)) == 500
    for _ in range(1500):
        with socket.create_server(("127.0.0.1", 0)) as drawn:
            assert drawn.getsockname()[1] not in given
    with socket.create_server(("127.0.0.1", given[0])):
        pass


@pytest.mark.parametrize(
    ("address", "parts"),
    [("127.0.0.1:50051", ("127.0.0.1", 50051)), ("[::1]:0", ("[::1]", 0)), ("h:65535", ("h", 65535))],
)
def test_an_address_is_split(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize("address", ["50051", ":50051", "localhost", "localhost:", "localhost:65536", "localhost:http"])
def test_a_malformed_address_is_refused(address: str) -> None:
    with pytest.raises(StartupError, match="is not an address such as"):
        split_address(address)


def test_an_exit_status_is_put_into_words() -> None:
    assert [describe_exit(code) for code in (0, 1, -9, -15)] == [
        "exit code 0",
        "exit code 1",
        "killed by SIGKILL",
        "killed by SIGTERM",
    ]
