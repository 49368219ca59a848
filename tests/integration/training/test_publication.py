"""From checkpoint to active space on the real stack: refused, broken off, gone on with, taken back."""

import asyncio
import configparser
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from chunk_streams import index_chunks
from click.testing import Result
from compact_checkpoint import ENCODER, write_adapters
from docs_pages import reader_at
from mined_data import write_data
from open_folder import open_folder
from queued_runs import run_folder
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from duovec.v1 import index_service_pb2 as index_pb
from duovec.v1 import space_service_pb2 as pb
from export.cli.main import app as export_app
from export.repository import EncoderFolder
from export.source import ADAPTERS_FILE
from gateway.client.client import Client
from gateway.local.postgres import Postgres
from gateway.local.process import GatewayServer, free_port
from gateway.local.triton import Triton
from gateway.store.api_key import ApiKey
from gateway.store.queries import load_queries
from training.cli.main import app
from training.dataset import data_digest

ENCODERS = ("compact-code", "compact-text")
ROOT = Path(__file__).parents[3]
GATE = ("--gate-pairs", "20", "--gate-longest", "16")
QUICK = (*GATE, "--limit", "24", "--wait", "200")
API_KEY = ApiKey.generate().text


@dataclass
class Site:
    """A stack of its own, whose encoders change."""

    repository: Path
    triton: Triton
    database_url: str
    endpoint: str
    data: Path
    good: Path
    bad: Path

    def command(self, checkpoint: Path, *options: str) -> list[str]:
        return [
            *(sys.executable, "-m", "training", "publish", "--code", str(checkpoint), "--data", str(self.data)),
            *("--repository", str(self.repository), "--endpoint", self.endpoint, "--triton-url", self.triton.url),
            *("--json", *QUICK, *options),
        ]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "DUOVEC_API_KEY": API_KEY, "DUOVEC_DATABASE_URL": self.database_url}

    def start(self, checkpoint: Path, *options: str) -> subprocess.Popen[bytes]:
        """In a process of its own, which can be killed."""
        return subprocess.Popen(self.command(checkpoint, *options), env=self.environment, stderr=subprocess.DEVNULL)

    def start_worker(self, work_dir: Path, *publish_options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "training", "worker", "--work-dir", str(work_dir), "--until-empty"]
        command += ["--endpoint", self.endpoint, "--repository", str(self.repository), "--triton-url", self.triton.url]
        for option in (*QUICK, *publish_options):
            command += [f"--publish-option={option}"]
        return subprocess.Popen(command, env=self.environment)

    async def publish(self, checkpoint: Path, *options: str) -> Result:
        """In this process: the libraries take longer to load than the command."""
        arguments = self.command(checkpoint, *options)[3:]
        return await asyncio.to_thread(CliRunner().invoke, app, arguments, env=self.environment)

    def spaces(self) -> list[pb.Space]:
        with Client(self.endpoint, api_key=API_KEY) as client:
            return list(client.spaces.list().spaces)

    def active(self) -> pb.Space:
        (space,) = [one for one in self.spaces() if one.state == pb.SPACE_STATE_ACTIVE]
        return space

    def search(self, query: str) -> list[str]:
        with Client(self.endpoint, api_key=API_KEY) as client:
            return [hit.chunk.symbol for hit in client.search("code", query, limit=3).hits]

    async def queue(self, *, attempt: int = 0) -> int:
        """A run of the encoder that is to be published."""
        recipe = (ROOT / "training" / "recipes" / f"{ENCODER}.toml").read_text(encoding="utf-8")
        insert = (
            "INSERT INTO training_runs (recipe, encoder, codebase_ids, device, publish, principal_id, attempt)"
            " VALUES ($1, $2, '{}', 'cpu', true, 'admin', $3) RETURNING run_id"
        )
        return int(await self.fetch(insert, recipe, ENCODER, attempt))

    async def fetch(self, query: str, *arguments: object) -> Any:
        connection = await asyncpg.connect(self.database_url)
        try:
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A folder that the account of PostgreSQL may enter, which pytest's own (mode 0700) are not."""
    with open_folder("duovec-publishing-") as root:
        yield root


@pytest.fixture(scope="module")
async def site(root: Path, published_models: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    repository = root / "models"
    # Without the version in bf16, which would be loaded anew beside every other.
    shutil.copytree(published_models, repository, ignore=shutil.ignore_patterns(ENCODER))
    # In fp32: bf16 turns ranks of the bad checkpoint around, and the export's own gate would refuse it first.
    words = ["publish", "--encoder", ENCODER, "--runtime", "onnxruntime", "--precision", "fp32"]
    words += ["--repository", str(repository), *GATE]
    exported = await asyncio.to_thread(CliRunner().invoke, export_app, words)
    assert exported.exit_code == 0, exported.stderr
    postgres = Postgres(root / "postgres", log_path=root / "postgres.log")
    triton = Triton(repository, ENCODERS, work_dir=root / "triton", log_path=root / "triton.log")
    await postgres.start()
    await triton.start()
    environment = {
        "DUOVEC_DATABASE_URL": postgres.url,
        "DUOVEC_TRITON_URL": triton.url,
        "DUOVEC_MODEL_REPOSITORY": str(repository),
        "DUOVEC_ADMIN_KEY": API_KEY,
        "DUOVEC_DRAIN_S": "1",
    }
    gateway = GatewayServer(f"127.0.0.1:{free_port()}", environment, log_path=root / "gateway.log")
    await gateway.start()
    yield Site(
        repository,
        triton,
        postgres.url,
        gateway.url,
        write_data(tmp_path_factory.mktemp("data")),
        write_adapters(tmp_path_factory.mktemp("good"), scale=2.0),
        write_adapters(tmp_path_factory.mktemp("bad"), rank=8),
    )
    await gateway.stop()
    await triton.stop()
    await postgres.stop()


@pytest.fixture(scope="module", autouse=True)
def stored(site: Site) -> None:
    """Real functions with docstrings, by which spaces are verified; the shortest, for each verification embeds them."""
    functions = set()
    for module in (configparser, tempfile, textwrap):
        classes = [owner for _, owner in inspect.getmembers(module, inspect.isclass)]
        for owner in (module, *classes):
            for name, function in inspect.getmembers(owner, inspect.isfunction):
                if function.__module__ == module.__name__ and function.__doc__:
                    functions.add((name, inspect.getsource(function)))
    assert len(functions) > 25
    requests = [
        index_pb.IndexChunksRequest(
            codebase_id="code",
            item_id=str(number),
            chunk={
                "path": f"{number}.py",
                "language": "python",
                "symbol": name,
                "kind": "function",
                "start_line": 1,
                "end_line": 1,
                "content": source,
                "file_sha256": bytes(32),
                "file_chunk_count": 1,
            },
            truncate=True,
        )
        for number, (name, source) in enumerate(sorted(functions, key=lambda one: (len(one[1]), one))[:45])
    ]
    with Client(site.endpoint, api_key=API_KEY) as client:
        client.create_codebase("code")
        replies = list(index_chunks(client, iter(requests)))
    assert [reply for reply in replies if not reply.HasField("indexed")] == []


def versions(site: Site) -> tuple[int, tuple[int, ...]]:
    state = EncoderFolder(site.repository, ENCODER).state()
    assert state is not None
    return state.served, state.loaded


async def until(what: str, condition: Callable[[], Awaitable[Any]], *, timeout_s: float = 240) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            while not await condition():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s:g} s: {what}") from None


async def test_what_is_not_better_is_refused(site: Site) -> None:
    """The table, the reason, exit code 1; nothing is exported, built or activated; `--dry-run` says the same."""
    before = (site.active().fingerprint, versions(site), len(site.spaces()))
    for options in (("--dry-run",), ()):
        refused = await site.publish(site.bad, *options)
        assert refused.exit_code == 1, refused.stderr
        assert "error: NOT_BETTER: MRR@10" in refused.stderr
        verdict = json.loads(refused.stdout)["verdict"]
        assert (verdict["better"], verdict["against"]) == (False, before[0])
        whole = verdict["comparisons"][0]
        assert (whole["slice"], whole["condition"]) == ("all", "named")
        assert whole["high"] < 0
        assert whole["mrr"]["candidate"] < whole["mrr"]["live"]
        assert set(whole["mrr"]) == {"candidate", "live", "untrained base", "BM25"}
        assert await site.fetch("SELECT count(*) FROM training_publications") == (0 if options else 1)
    assert (site.active().fingerprint, versions(site), len(site.spaces())) == before
    assert await site.fetch("SELECT state FROM training_publications") == "REFUSED"


async def test_what_does_not_fit_is_refused_before_anything_is_measured(site: Site, tmp_path: Path) -> None:
    """A checkpoint of other shapes, one of another base, one that was trained on another set: one line each."""
    other_shape = tmp_path / "shape"
    other_shape.mkdir()
    tensors = load_file(site.good / ADAPTERS_FILE)
    save_file({**tensors, "head.weight": tensors["head.weight"][:, :100].copy()}, other_shape / ADAPTERS_FILE)
    for name, lineage in (
        ("base", {"base": {"package": "another-base", "version": "1", "files": {"model.safetensors": "0" * 64}}}),
        ("unknown", {"base": {"package": "another-base", "version": "1"}}),
        ("data", {"data_sha256": "0" * 64}),
    ):
        shutil.copytree(site.good, tmp_path / name)
        (tmp_path / name / "lineage.json").write_text(json.dumps(lineage), encoding="utf-8")
    before = versions(site)
    for folder, words in (
        (other_shape, "head.weight"),
        (tmp_path / "base", "the base of the checkpoint of compact-code is another-base 1 (model.safetensors 0000"),
        (tmp_path / "unknown", "nobody knows from which base the checkpoint of compact-code comes"),
        (tmp_path / "data", "was trained on the data set 0000000000000000…"),
    ):
        refused = await site.publish(folder)
        assert refused.exit_code == 1
        assert words in refused.stderr
        assert len([line for line in refused.stderr.splitlines() if line.startswith("error: ")]) == 1
        assert refused.stdout == ""
    assert await site.fetch("SELECT count(*) FROM training_publications WHERE state <> 'REFUSED'") == 0
    assert versions(site) == before


async def test_a_broken_publication_goes_on_and_an_unfit_space_is_taken_back(site: Site, tmp_path: Path) -> None:
    """Killed while it exports, without its database while chunks are embedded, cancelled, refused by the verification.

    The live space is searched all the while; in the end everything is as it was.
    """
    live, before = site.active(), versions(site)
    force = ("--min-gain", "-1", "--slice-tolerance", "1")
    run_id = await site.queue(attempt=1)
    folder = await run_folder(site.database_url, tmp_path, run_id)
    shutil.copytree(site.bad, folder.result)
    killed = site.start(folder.result, *force)
    recorded = "SELECT count(*) FROM training_publications WHERE state = 'RUNNING' AND steps ? $1"
    await until("the gate has spoken", lambda: site.fetch(recorded, "evaluate"))
    killed.kill()
    killed.wait()
    assert versions(site) == before
    locks = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory'"
    locks += " AND query LIKE '%publication%'"

    async def forgotten() -> bool:
        return await site.fetch(locks) == 0

    await until("PostgreSQL has noticed its end", forgotten)

    publishing = asyncio.create_task(site.publish(folder.result, *force, "--rate", "3"))

    async def built() -> bool:
        assert not publishing.done(), publishing.result().stderr
        return bool(await site.fetch(recorded, "build_space"))

    await until("a space is built", built)
    cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND pid IN"
    cut += (
        " (SELECT pid FROM pg_stat_activity WHERE query LIKE '%training_publications%' OR query LIKE '%publication%')"
    )
    await until("its connection is cut", lambda: site.fetch(cut))
    broken = await publishing
    assert broken.exit_code == 1
    assert "error: UNFINISHED: the database" in broken.stderr
    assert "the same command goes on where it was" in broken.stderr
    assert "live space" not in broken.stderr  # the gate had spoken
    assert site.active().fingerprint == live.fingerprint
    served, loaded = versions(site)
    assert served == before[0] + 1
    assert {before[0], served} <= set(loaded)  # the live version stays
    assert len(site.spaces()) == 2

    # The run that it was for was given back, and is cancelled: the next worker takes back what is half done.
    folder.prepare()
    shutil.copytree(site.data, folder.data)
    await site.fetch("UPDATE training_publications SET run_id = $1 WHERE state = 'RUNNING'", run_id)
    await site.fetch(load_queries("training.sql")["cancel_run"], run_id)
    worker = site.start_worker(tmp_path, *force)
    assert await asyncio.to_thread(worker.wait, 200) == 0
    assert await site.fetch("SELECT state FROM training_runs") == "CANCELLED"
    assert [one.fingerprint for one in site.spaces()] == [live.fingerprint]
    assert versions(site)[0] == before[0]
    await site.fetch("DELETE FROM training_runs")

    refused = await site.publish(folder.result, *force)
    assert refused.exit_code == 1
    assert "error: VERIFICATION_FAILED" in refused.stderr
    assert "MRR@10" in refused.stderr
    assert "ONNX" not in refused.stderr  # nothing was exported again
    assert [one.fingerprint for one in site.spaces()] == [live.fingerprint]
    assert site.active().code_encoder.version == versions(site)[0] == before[0]
    assert site.search("wrap a paragraph of text")
    steps = json.loads(await site.fetch("SELECT steps FROM training_publications ORDER BY publication_id DESC LIMIT 1"))
    assert list(steps) == ["evaluate"]


async def test_a_worker_publishes_what_passes(site: Site, tmp_path: Path) -> None:
    """With a margin that admits a candidate as good as the live space; asked for again, nothing happens twice.

    Data and checkpoint lie in the run's folder, as after a worker that died of the export.
    """
    live = site.active()
    run_id = await site.queue()
    folder = await run_folder(site.database_url, tmp_path, run_id)
    result = folder.result
    shutil.copytree(site.good, result)
    shutil.copytree(site.data, folder.data)
    margin = ("--min-gain", "-0.05")
    worker = site.start_worker(tmp_path, *margin)
    assert await asyncio.to_thread(worker.wait, 400) == 0
    state, error = await site.fetch("SELECT ARRAY[state, error] FROM training_runs")
    assert (state, error) == ("SUCCEEDED", None)
    active = site.active()
    space, stage = await site.fetch("SELECT ARRAY[space, stage] FROM training_runs")
    assert (space, stage) == (active.fingerprint, "activate")
    assert active.fingerprint != live.fingerprint
    assert (active.code_encoder.version, active.text_encoder.version) == (versions(site)[0], live.text_encoder.version)
    assert json.loads(await site.fetch("SELECT metrics FROM training_runs"))["better"]
    assert site.search("wrap a paragraph of text")
    row = "SELECT lineage FROM training_publications WHERE state = 'SUCCEEDED' AND run_id = $1"
    lineage = json.loads(await site.fetch(row, run_id))
    assert lineage["data_sha256"] == data_digest(site.data)
    assert lineage["code"].startswith("duovec ")
    assert lineage["checkpoints"]["code"]["origin"]["adapters"]["files"].keys() == {ADAPTERS_FILE}

    again = await site.publish(result, *margin)
    assert (again.exit_code, json.loads(again.stdout)["space"]) == (0, space)
    assert (len(site.spaces()), versions(site)[0]) == (2, active.code_encoder.version)
    with Client(site.endpoint, api_key=API_KEY) as client:
        client.spaces.roll_back()
    gone = await site.publish(result, *margin)
    assert gone.exit_code == 1
    assert f"duovec space activate {space[:12]}" in gone.stderr


@pytest.mark.timeout(600)  # five programs that load torch, one after the other
def test_the_tutorial_does_what_it_says(site: Site, tmp_path: Path) -> None:
    """From a checkpoint to the vectors that are searched, and back: every command of the page."""
    before = site.active().fingerprint
    replaced = {".duovec/model_repository": str(site.repository), "127.0.0.1:8001": site.triton.url}
    variables = {"DUOVEC_DATABASE_URL": site.database_url, "OMP_NUM_THREADS": "1"}
    reader_at(site.endpoint, API_KEY, tmp_path, replaced=replaced, **variables).follow("tutorials/models.md")
    assert site.active().fingerprint == before
    assert site.search("wrap a paragraph of text")
