"""Qodo's and Jina's architectures end to end: served by Triton, stored and found; trained by their recipes, published.

The weights are random and the layers few; dimensions, pooling, prompts and task adapters are those of the real pair.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest
import torch
from click.testing import Result
from mined_data import write_data
from numpy.typing import NDArray
from peft import PeftModel
from safetensors.numpy import load_file
from tiny_models import make_jina, make_qwen2
from tokenizers import Tokenizer
from transformers import JinaEmbeddingsV3Model, Qwen2Model
from typer.testing import CliRunner

from duovec.v1 import space_service_pb2 as pb
from export.cli.main import app as export_app
from export.gate import gate
from export.repository import EncoderFolder
from export.source import task_folder
from export.spec import load_pair
from export.transformer import quiet_transformers
from gateway.client.client import Client
from gateway.client.indexer import index_tree
from gateway.local.stack import Stack, StackSettings
from training.cli.main import app
from training.code_version import code_version
from training.publication import candidacy
from training.publication import publish as publishing
from training.publication.gate import GateLimits, judge
from training.publication.unfinished import Unfinished
from training.run import RunRequest, train

ROOT = Path(__file__).parents[3]
Command = Callable[..., Awaitable[Result]]
CODE, TEXT = load_pair("full")
SNIPPETS = [
    "def add(a, b):\n    return a + b\n",
    "class Stack:\n    pass\n",
    "for line in open(path):\n    print(line)\n",
]
QUICK = ("--gate-pairs", "20", "--gate-longest", "16")
# What makes seconds of hours, and lets two steps be seen; everything else is the recipe's own.
_SMALL = {
    "query_tokens": 16,
    "passage_tokens": 32,
    "batch": 4,
    "mini_batch": 2,
    "rows_an_epoch": 120,
    "learning_rate": 1e-2,
    "precision": '"fp32"',
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random weights of both encoders by name."""
    return {
        CODE.name: make_qwen2(tmp_path_factory.mktemp("qwen2"), layers=1),
        TEXT.name: make_jina(tmp_path_factory.mktemp("jina"), TEXT, layers=1),
    }


@pytest.fixture(scope="module", autouse=True)
def few_neighbours() -> Iterator[None]:
    """For speed: a row of the gate has 15 neighbours, not 63."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gate, "NEIGHBOURS", 15)
        yield


@pytest.fixture(scope="module")
def full_repository(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both encoders, published from these checkpoints by the command, in this process: torch is loaded here."""
    repository = tmp_path_factory.mktemp("full")
    for name, checkpoint in checkpoints.items():
        words = ["publish", "--encoder", name, "--checkpoint", str(checkpoint), "--repository", str(repository)]
        published = CliRunner().invoke(export_app, [*words, "--precision", "fp32", *QUICK])
        assert published.exit_code == 0, published.stderr
    return repository


@pytest.fixture(scope="module")
async def full_stack(full_repository: Path, session_dir: Path) -> Any:
    """`duovec up --pair full`."""
    settings = StackSettings(
        data_dir=session_dir / "full", model_repository=full_repository, listen="127.0.0.1:0", pair="full"
    )
    async with Stack(settings) as stack:
        yield stack


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("mined"), limit=120)


@pytest.fixture(scope="module")
def results(checkpoints: dict[str, Path], data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What both recipes give on these checkpoints, by encoder."""
    found = {}
    for name, base in checkpoints.items():
        folder = tmp_path_factory.mktemp(name)
        text = (ROOT / "training" / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
        for key, value in _SMALL.items():
            text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
            assert count == 1, key
        text = text.replace("batch = 4\n", "batch = 4\nmax_steps = 2\n", 1)
        (folder / "recipe.toml").write_text(text, encoding="utf-8")
        found[name] = train(RunRequest(folder / "recipe.toml", data, folder / "run", base, "cpu"))
    return found


@pytest.fixture(scope="module")
def full_client(full_stack: Stack) -> Iterator[Client]:
    with Client(full_stack.endpoint, api_key=full_stack.api_key) as client:
        yield client


def unit(vector: torch.Tensor) -> NDArray[np.float64]:
    """Norm 1, in float64."""
    values: NDArray[np.float64] = vector.double().numpy()
    return values / np.linalg.norm(values)


def reference(
    checkpoints: dict[str, Path], text: str, input_type: str, *, trained: dict[str, Path] | None = None
) -> NDArray[np.float64]:
    """normalize([√½·code ; √½·text]) by transformers and PEFT alone, one text at a time."""
    how = getattr(TEXT, input_type)
    with quiet_transformers(), torch.inference_mode():
        code_folder, text_folder = checkpoints[CODE.name], checkpoints[TEXT.name]
        code: Any = Qwen2Model.from_pretrained(code_folder, dtype=torch.float32)
        if trained is not None:
            code = PeftModel.from_pretrained(code, str(trained[CODE.name]))
        ids = Tokenizer.from_file(str(code_folder / "tokenizer.json")).encode(text).ids
        code_part = unit(code.eval()(input_ids=torch.tensor([ids])).last_hidden_state[0, -1])
        base = JinaEmbeddingsV3Model.from_pretrained(text_folder, dtype=torch.float32, add_pooling_layer=False)
        adapters = (trained or checkpoints)[TEXT.name] / task_folder(how.task)
        jina: Any = PeftModel.from_pretrained(base, str(adapters))
        ids = Tokenizer.from_file(str(text_folder / "tokenizer.json")).encode(how.prompt + text).ids
        text_part = unit(jina.eval()(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(dim=0))
    return np.concatenate([code_part, text_part]) * np.sqrt(0.5)


@pytest.mark.parametrize("input_type", ["query", "passage"])
def test_vectors_equal_transformers_and_peft(
    full_client: Client, checkpoints: dict[str, Path], input_type: Any
) -> None:
    """Prompt, task adapter, pooling and the join, in one batch of mixed lengths."""
    vectors_BV = full_client.embed(SNIPPETS, input_type).astype(np.float64)
    for text, vector_V in zip(SNIPPETS, vectors_BV, strict=True):
        assert float(vector_V @ reference(checkpoints, text, input_type)) > 0.99999


def test_queries_and_passages_take_different_adapters(full_client: Client) -> None:
    """The text half differs by input type; the code half, which has no tasks, does not."""
    query_V = full_client.embed(SNIPPETS[:1], "query")[0]
    passage_V = full_client.embed(SNIPPETS[:1], "passage")[0]
    assert float(2 * query_V[:1536] @ passage_V[:1536]) > 0.9999
    assert float(2 * query_V[1536:] @ passage_V[1536:]) < 0.99


def test_code_is_stored_and_found(full_client: Client, tmp_path: Path) -> None:
    """From files on the disk to a ranked hit, through both encoders and the database."""
    for number, snippet in enumerate(SNIPPETS):
        (tmp_path / f"file{number}.txt").write_text(snippet)
    report = index_tree(full_client, tmp_path, "full-pair")
    assert report.chunks_embedded == len(SNIPPETS)
    hits = full_client.search("full-pair", SNIPPETS[2], limit=3).hits
    assert hits[0].chunk.path == "file2.txt"
    assert len(hits) == 3


def test_qodo_s_recipe_trains_an_adapter(results: dict[str, Path]) -> None:
    """PEFT's, beside the base that it was trained on; gradient checkpointing and the cached loss are on."""
    adapter = load_file(results[CODE.name] / "adapter_model.safetensors")
    assert len(adapter) == 4 * 2  # targets, A and B
    assert all(np.any(one) for name, one in adapter.items() if "lora_B" in name)
    assert json.loads((results[CODE.name] / "lineage.json").read_text())["code"] == code_version()


def test_jina_s_recipe_trains_two_tasks_and_leaves_three(
    checkpoints: dict[str, Path], results: dict[str, Path]
) -> None:
    """Queries and passages go on learning from their adapters; the other tasks' adapters stay bit for bit."""
    for task in TEXT.tasks:
        before, after = (
            load_file(folders[TEXT.name] / task_folder(task) / "adapter_model.safetensors")
            for folders in (checkpoints, results)
        )
        assert after.keys() == before.keys()
        changed = any(not np.array_equal(after[name], before[name]) for name in before)
        assert changed == task.startswith("retrieval."), task


@pytest.fixture
def command(
    full_stack: Stack, full_repository: Path, checkpoints: dict[str, Path], results: dict[str, Path], data: Path
) -> Command:
    """`duovec-train publish` of both results, in this process. Random weights learn nothing, so the margins admit
    everything.
    """
    backends = full_stack._gateway_environment
    words = ["publish", "--pair", "full", "--data", str(data), "--repository", str(full_repository), "--json"]
    for role, spec in (("code", CODE), ("text", TEXT)):
        words += [f"--{role}", str(results[spec.name]), f"--{role}-base", str(checkpoints[spec.name])]
    words += ["--endpoint", full_stack.endpoint, "--triton-url", backends["DUOVEC_TRITON_URL"], *QUICK]
    words += ["--limit", "6", "--min-gain", "-1", "--slice-tolerance", "1"]
    environment = {
        "DUOVEC_API_KEY": full_stack.api_key,
        "DUOVEC_DATABASE_URL": backends["DUOVEC_DATABASE_URL"],
    }
    return lambda *options: asyncio.to_thread(CliRunner().invoke, app, [*words, *options], env=environment)


async def test_what_is_refused_when_it_goes_on_is_taken_back(
    command: Command, full_stack: Stack, full_client: Client, full_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off with the space built; another space was activated meanwhile, against which the candidate is no better.

    Half of it would stay otherwise: versions that are served, and a space that nobody fills.
    """

    def break_off(*arguments: Any, **options: Any) -> None:
        raise Unfinished("broken off")

    with monkeypatch.context() as patched:
        patched.setattr(publishing, "fill_space", break_off)
        broken = await command()
    assert "UNFINISHED: broken off" in broken.stderr
    assert served(full_repository) == [2, 2]
    assert [one.state for one in full_client.spaces.list().spaces] == [
        pb.SPACE_STATE_ACTIVE,
        pb.SPACE_STATE_BUILDING,
    ]

    connection = await asyncpg.connect(full_stack._gateway_environment["DUOVEC_DATABASE_URL"])
    await connection.execute(
        "UPDATE training_publications SET steps = jsonb_set(steps, '{evaluate,against}', '\"another space\"')"
    )
    strict = GateLimits(min_gain=0.99)
    with monkeypatch.context() as patched:
        patched.setattr(candidacy, "judge", lambda measured, limits: judge(measured, strict))
        refused = await command()
    assert refused.exit_code == 1
    assert "NOT_BETTER" in refused.stderr
    assert served(full_repository) == [1, 1]
    assert [one.state for one in full_client.spaces.list().spaces] == [pb.SPACE_STATE_ACTIVE]
    state, steps = await connection.fetchrow("SELECT state, steps FROM training_publications")
    await connection.execute("DELETE FROM training_publications")
    await connection.close()
    assert (state, list(json.loads(steps))) == ("REFUSED", ["evaluate"])


def served(repository: Path) -> list[int]:
    """The served versions."""
    states = [EncoderFolder(repository, spec.name).state() for spec in (CODE, TEXT)]
    return [state.served for state in states if state is not None]


async def test_both_results_are_published_by_one_command(
    command: Command,
    full_client: Client,
    full_repository: Path,
    checkpoints: dict[str, Path],
    results: dict[str, Path],
) -> None:
    """Measured, exported, proven, served beside the old versions, embedded again, activated: then the gateway gives the
    trained vectors. The versions are those that were taken back before.
    """
    before = {one.fingerprint for one in full_client.spaces.list().spaces}
    looked = await command("--dry-run")
    assert looked.exit_code == 0, looked.stderr
    plan = json.loads(looked.stdout)["plan"]
    assert ({plan["live_space"]}, plan["chunks"]) == (before, len(SNIPPETS))
    how = {"live": 1, "version": 2, "is_built": True, "runtime": "openvino", "precision": "fp32"}
    assert plan["exports"] == {role: {"encoder": one.name, **how} for role, one in (("code", CODE), ("text", TEXT))}
    assert {one.fingerprint for one in full_client.spaces.list().spaces} == before
    assert served(full_repository) == [1, 1]
    published = await command()
    assert published.exit_code == 0, published.stderr
    found = json.loads(published.stdout)
    assert found["versions"] == {"code": 2, "text": 2}
    spaces = {one.fingerprint: one for one in full_client.spaces.list().spaces}
    active = spaces[found["space"]]
    assert active.fingerprint not in before
    assert active.state == pb.SPACE_STATE_ACTIVE
    assert (active.code_encoder.version, active.text_encoder.version) == (2, 2)
    assert active.pending_chunk_count == 0
    for input_type in ("query", "passage"):
        vector_V = full_client.embed(SNIPPETS[2:], input_type)[0].astype(np.float64)
        assert float(vector_V @ reference(checkpoints, SNIPPETS[2], input_type, trained=results)) > 0.99999
        assert float(vector_V @ reference(checkpoints, SNIPPETS[2], input_type)) < 0.999
    assert full_client.search("full-pair", SNIPPETS[2], limit=3).hits[0].chunk.path == "file2.txt"


async def test_the_live_space_stands_in_the_table(
    full_stack: Stack, full_client: Client, checkpoints: dict[str, Path], results: dict[str, Path], data: Path
) -> None:
    """After it was published, the pair that is evaluated is the live space: the same figures, by way of the gateway."""
    words = ["evaluate", "--pair", "full", "--data", str(data), "--limit", "10", "--json"]
    for role, spec in (("code", CODE), ("text", TEXT)):
        words += [f"--{role}", str(results[spec.name]), f"--{role}-base", str(checkpoints[spec.name])]
    words += ["--endpoint", full_stack.endpoint, "--api-key", full_stack.api_key]
    evaluated = await asyncio.to_thread(CliRunner().invoke, app, words)
    assert evaluated.exit_code == 0, evaluated.stderr
    found = json.loads(evaluated.stdout)
    assert found["live_space"] == full_client.spaces.list().served_space
    assert list(found["systems"]) == ["pair", "code encoder", "text encoder", "untrained base", "live space", "BM25"]
    pair, live, base = (found["systems"][name] for name in ("pair", "live space", "untrained base"))
    for condition in ("named", "blanked"):
        assert live[condition] == pair[condition]
    for name in ("alignment", "uniformity", "triplet_accuracy"):
        assert live[name] == pytest.approx(pair[name], abs=1e-3)
    # Two steps change little, but more than may lie between the two ways to the same vectors.
    assert abs(base["alignment"] - pair["alignment"]) > 3e-3
