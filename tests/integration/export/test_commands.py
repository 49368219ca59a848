"""The commands as people type them: a fine-tuned checkpoint to a served version on the real Triton, and back."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_checkpoint import NAME, write_checkpoint, write_spec
from small_encoder import entries
from typer.testing import CliRunner

from export.cli.main import app
from export.repository import EncoderFolder
from export.source import sha256_of
from export.triton_control import TritonControl
from gateway.local.triton import Triton

# As much as shows what is asked here; how the gate judges has tests of its own.
GATE = ("--gate-pairs", "20", "--gate-longest", "64")
DUOVEC_EXPORT = str(Path(sys.executable).with_name("duovec-export"))


@dataclass
class Commands:
    """Runs `duovec-export` on one repository."""

    root: Path
    url: str

    @property
    def folder(self) -> EncoderFolder:
        """The encoder's folder."""
        return EncoderFolder(self.root / "models", NAME)

    async def run(
        self, command: str, *options: object, code: int = 0, own_process: bool = False
    ) -> tuple[Any, list[str]]:
        """Stdout as JSON (None when it is empty), and the lines of stderr.

        In this process unless `own_process`: the libraries take longer to load than most commands.
        """
        arguments = [command, "--repository", str(self.root / "models"), *map(str, options), "--json"]
        if own_process:
            pipe = asyncio.subprocess.PIPE
            child = await asyncio.create_subprocess_exec(DUOVEC_EXPORT, *arguments, stdout=pipe, stderr=pipe)
            stdout, stderr = (told.decode() for told in await asyncio.wait_for(child.communicate(), 200))
            exit_code = child.returncode
        else:
            result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
            stdout, stderr, exit_code = result.stdout, result.stderr, result.exit_code
        assert exit_code == code, stderr
        return (json.loads(stdout) if stdout.strip() else None), stderr.splitlines()

    async def publish(
        self, seed: int, *options: object, code: int = 0, own_process: bool = False
    ) -> tuple[Any, list[str]]:
        """Publish the checkpoint of a seed."""
        checkpoint = self.root / f"checkpoint-{seed}"
        if not checkpoint.exists():
            write_checkpoint(checkpoint, seed=seed)
        chosen = ("--spec", self.root / "small.toml", "--checkpoint", checkpoint, "--runtime", "onnxruntime")
        chosen = (*chosen, *GATE, "--triton-url", self.url, *options)
        return await self.run("publish", *chosen, code=code, own_process=own_process)

    def vector(self, version: int) -> np.ndarray:
        """What Triton answers for one row of a version."""
        with TritonControl(self.url) as control:
            return control.infer(NAME, version, [101, 2330, 1037, 22278, 102], 0)


@pytest.fixture
async def commands(tmp_path: Path) -> AsyncIterator[Commands]:
    """An empty repository, and a Triton on it that serves nothing yet."""
    (tmp_path / "models").mkdir()
    write_spec(tmp_path / "small.toml")
    triton = Triton(tmp_path / "models", [], work_dir=tmp_path / "triton", log_path=tmp_path / "triton.log")
    await triton.start()
    yield Commands(tmp_path, triton.url)
    await triton.stop(grace_s=1)


async def test_from_checkpoint_to_triton_and_back(commands: Commands) -> None:
    """Publish twice, roll back, prune: one step each, and Triton follows."""
    document, _ = await commands.publish(1, own_process=True)
    (row,) = document["encoders"]
    assert (row["version"], row["published"], row["loaded"], row["smoke"]) == (1, True, [1], "triton")
    assert row["min_cosine"] > 0.99999 and row["smoke_cosine"] > 0.9999
    first = commands.vector(1)

    document, stderr = await commands.publish(1, "--if-missing")
    assert document["encoders"][0]["published"] is False
    assert not any("build the encoder" in line for line in stderr)
    document, _ = await commands.publish(2, "--if-missing")
    (row,) = document["encoders"]
    assert (row["version"], row["published"], row["loaded"]) == (2, True, [1, 2])
    second = commands.vector(2)
    assert float(first @ second) < 0.9
    assert np.array_equal(commands.vector(1), first)

    document, _ = await commands.run("rollback", "--encoder", NAME, "--triton-url", commands.url)
    assert (document["version"], document["loaded"], document["smoke"]) == (1, [1, 2], "triton")
    document, _ = await commands.run("rollback", "--encoder", NAME, "--triton-url", commands.url, "--to", 2)
    assert document["version"] == 2
    document, _ = await commands.run("list")
    assert [(row["version"], row["state"]) for row in document["versions"]] == [(1, "loaded"), (2, "served")]

    document, _ = await commands.run("prune", "--keep", 1)
    assert (document["encoders"][0]["removed"], document["encoders"][0]["still_loaded"]) == ([], [1])
    document, _ = await commands.run("prune", "--keep", 1, "--triton-url", commands.url)
    assert (document["encoders"][0]["removed"], document["encoders"][0]["still_loaded"]) == ([1], [])
    assert entries(commands.folder) == ["2", "config.pbtxt"]
    with TritonControl(commands.url) as control:
        assert [control.ready(NAME, version) for version in (1, 2)] == [False, True]
    assert np.array_equal(commands.vector(2), second)


async def test_what_the_gate_refuses_is_never_published(commands: Commands) -> None:
    """The candidate's graph is another checkpoint's, with digests that fit: only its vectors give it away."""
    await commands.publish(1)
    chosen = ("--spec", commands.root / "small.toml", "--runtime", "onnxruntime")
    checkpoint = write_checkpoint(commands.root / "checkpoint-2", seed=2)
    await commands.run("build", *chosen, "--checkpoint", checkpoint)
    graph = commands.folder.path / ".candidate" / "model.onnx"
    graph.write_bytes((commands.folder.path / "1" / "model.onnx").read_bytes())
    candidate = commands.folder.candidate()
    assert candidate is not None
    commands.folder.update_candidate({"files": {**candidate.manifest["files"], "model.onnx": sha256_of(graph)}})

    checked = ("--encoder", NAME, "--spec", commands.root / "small.toml")
    document, stderr = await commands.run(
        "verify", *checked, *GATE, "--checkpoint", checkpoint, "--html", commands.root / "r.html", code=1
    )
    assert document["gates"][0]["passed"] is False
    assert stderr[-1].startswith(f"error: {NAME} in onnxruntime fp32: ") and "batch 1, length 16" in stderr[-1]
    assert (commands.root / "r.html").stat().st_size > 1000
    _, stderr = await commands.publish(2, code=1)
    assert "batch 1, length 16" in stderr[-1]
    assert not any("export to ONNX" in line for line in stderr)  # the candidate was taken up as it stood
    state = commands.folder.state()
    assert state is not None and (state.served, state.newest) == (1, 1)

    document, _ = await commands.run("list")
    assert [row["state"] for row in document["versions"]] == ["served", "candidate"]


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="this machine builds engines itself")
async def test_an_engine_is_built_by_a_script_where_there_is_no_gpu(commands: Commands) -> None:
    """Without a GPU: one line that says so before the long export; with a script, a candidate that waits for it."""
    checkpoint = write_checkpoint(commands.root / "checkpoint", seed=1)
    chosen = ("--spec", commands.root / "small.toml", "--checkpoint", checkpoint)
    chosen = (*chosen, "--runtime", "tensorrt", "--precision", "fp16")
    _, stderr = await commands.run("build", *chosen, code=1)
    assert len(stderr) == 1 and "--emit-build-script FILE" in stderr[0]
    script = commands.root / "build.sh"
    await commands.run("build", *chosen, "--emit-build-script", script)
    assert "trtexec" in script.read_text() and script.stat().st_mode & 0o111
    _, stderr = await commands.run("publish", *chosen, code=1)
    assert "has no model.plan yet: run its build script on a GPU" in stderr[-1]
    assert entries(commands.folder) == [".candidate"]
