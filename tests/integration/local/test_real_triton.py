"""The real Triton server as a child process."""

import asyncio
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import psutil
import pytest
from polling import until
from tritonclient.grpc.aio import InferenceServerClient, InferInput

from gateway.errors import StartupError
from gateway.local import liveness
from gateway.local.triton import Triton

# A token that an encoder of the tiny models takes half a second for.
SLOW = 7777


def _make(models: Path, names: list[str], tmp_path: Path, grpc_port: int | None = None) -> Triton:
    return Triton(models, names, work_dir=tmp_path, log_path=tmp_path / "triton.log", grpc_port=grpc_port)


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _wait_until_gone(processes: Iterable[psutil.Process]) -> None:
    def runs(process: psutil.Process) -> bool:
        # A zombie has ended; whether it is buried is up to process 1 of the machine.
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)

    for process in processes:
        try:
            while runs(process):
                time.sleep(0.01)
        except psutil.NoSuchProcess:
            continue


def _thread_states(pid: int) -> set[str]:
    """As the kernel names them; T is stopped."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    # The name in parentheses before may have any sign in it.
    return {stat.rpartition(") ")[2][0] for stat in stats}


def _shared_memory(triton: Triton) -> set[str]:
    """Of this one: other suites run theirs at the same time."""
    return {path.name for path in Path("/dev/shm").glob(f"{triton._shm_prefix}*")}


async def test_it_answers_an_inference_and_leaves_nothing_behind(tiny_models: Path, tmp_path: Path) -> None:
    triton = _make(tiny_models, ["doubler"], tmp_path)
    await triton.start()
    family = _family(triton.pid)
    assert [process.name()[:15] for process in family] == ["tritonserver", "triton_python_b"]
    assert _shared_memory(triton)

    x = np.array([[1.5, -2.0, 0.25]], dtype=np.float32)
    tensor = InferInput("x", x.shape, "FP32")
    tensor.set_data_from_numpy(x)
    async with InferenceServerClient(triton.url) as client:
        reply = await client.infer("doubler", [tensor])
    np.testing.assert_array_equal(reply.as_numpy("y"), [[3.0, -4.0, 0.5]])

    await triton.stop()
    assert await triton.wait() == 0
    _wait_until_gone(family)
    assert _shared_memory(triton) == set()


async def test_it_listens_on_loopback_only(tiny_models: Path, tmp_path: Path) -> None:
    triton = _make(tiny_models, ["doubler"], tmp_path)
    await triton.start()
    listeners = [
        f"{connection.laddr.ip.removeprefix('::ffff:')}:{connection.laddr.port}"
        for process in _family(triton.pid)
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    await triton.stop(grace_s=0)
    assert {f"http://{listener}" for listener in listeners} == {f"http://{triton.url}", triton.http_url}


async def test_whether_it_lives_is_told_by_its_answers(tiny_models: Path, tmp_path: Path) -> None:
    """A dead process, and one that answers what it was not asked, are seen; its own health says yes to both."""
    triton = _make(tiny_models, ["named"], tmp_path)
    await triton.start()
    async with InferenceServerClient(triton.url) as client:
        await asyncio.to_thread(liveness.check, triton.http_url)
        await client.load_model("late")
        with pytest.raises(
            liveness.NotAlive, match="models/late/versions/1 answers to other rows than it was asked for"
        ):
            await asyncio.to_thread(liveness.check, triton.http_url)
        await client.unload_model("late")
        await asyncio.to_thread(liveness.check, triton.http_url)
        _family(triton.pid)[1].kill()
        with pytest.raises(liveness.NotAlive, match="models/named/versions/1.* is not healthy"):
            await asyncio.to_thread(liveness.check, triton.http_url)
        assert await client.is_server_live() and await client.is_model_ready("named")
    await triton.stop(grace_s=0)


async def test_who_is_busy_is_alive_and_who_does_nothing_is_not(tiny_models: Path, tmp_path: Path) -> None:
    """A row that waits behind others has time; one for which nothing is done has none."""
    triton = _make(tiny_models, ["named"], tmp_path)
    await triton.start()
    tensors = []
    for name, values in (("input_ids", [[SLOW]]), ("attention_mask", [[1]])):
        tensors.append(InferInput(name, [1, 1], "INT64"))
        tensors[-1].set_data_from_numpy(np.array(values, dtype=np.int64))
    async with InferenceServerClient(triton.url) as client:
        others = [asyncio.create_task(client.infer("named", tensors)) for _ in range(60)]
        try:
            await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.to_thread(liveness.check, triton.http_url, timeout_s=2)
            assert not all(task.done() for task in others)
            os.killpg(triton.pid, signal.SIGSTOP)
            # On a busy machine a thread of it may still answer.
            assert until(lambda: _thread_states(triton.pid), lambda found: found == {"T"}) == {"T"}
            with pytest.raises(liveness.NotAlive, match="no answer to repository/index in time"):
                await asyncio.to_thread(liveness.check, triton.http_url, timeout_s=0.5)
        finally:  # a stopped one hears nothing of the end of the tests
            await triton.stop(grace_s=0)
        await asyncio.gather(*others, return_exceptions=True)
    with pytest.raises(liveness.NotAlive, match="refused"):
        liveness.check(triton.http_url)


async def test_a_kill_is_noticed_and_its_stub_does_not_outlive_it(tiny_models: Path, tmp_path: Path) -> None:
    triton = _make(tiny_models, ["doubler"], tmp_path)
    await triton.start()
    family = _family(triton.pid)
    os.kill(triton.pid, signal.SIGKILL)
    assert await asyncio.wait_for(triton.wait(), 60) == -signal.SIGKILL
    _wait_until_gone(family)
    await triton.stop()
    assert _shared_memory(triton) == set()


async def test_a_model_that_does_not_load_is_named_with_its_reason(tiny_models: Path, tmp_path: Path) -> None:
    triton = _make(tiny_models, ["doubler", "broken"], tmp_path)
    with pytest.raises(StartupError) as caught:
        await triton.start()
    assert str(caught.value) == (
        "Triton did not start (exit code 1): model broken version 1: Internal: ModuleNotFoundError: "
        f"No module named 'no_such_package' (log: {tmp_path / 'triton.log'})"
    )


async def test_a_model_that_is_not_there_is_named(tiny_models: Path, tmp_path: Path) -> None:
    triton = _make(tiny_models, ["absent"], tmp_path)
    with pytest.raises(StartupError, match="failed to poll model 'absent': model not found in any model repository"):
        await triton.start()


async def test_a_taken_port_is_named(tiny_models: Path, tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StartupError, match=f"Socket '127.0.0.1:{port}' already in use"):
            await _make(tiny_models, ["doubler"], tmp_path, grpc_port=port).start()


async def test_a_start_that_is_too_slow_leaves_nothing_running(tiny_models: Path, tmp_path: Path) -> None:
    triton = _make(tiny_models, ["doubler"], tmp_path)
    with pytest.raises(StartupError, match=r"Triton was not ready after 0\.01 s; its log, .*triton\.log, ends with: "):
        await triton.start(timeout_s=0.01)
    _wait_until_gone(process for process in psutil.process_iter() if process.pid == triton.pid)
