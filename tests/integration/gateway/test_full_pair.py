"""Qodo's and Jina's architectures end to end: exported, proven, served by Triton, stored and found.

The weights are random and the layers few; dimensions, pooling, prompts and task adapters are those of the real pair.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import PeftModel
from tiny_models import make_jina, make_qwen2
from tokenizers import Tokenizer
from transformers import JinaEmbeddingsV3Model, Qwen2Model
from typer.testing import CliRunner

from export.cli.main import app
from export.source import task_folder
from export.spec import load_pair
from export.transformer import quiet_transformers
from gateway.client.client import Client
from gateway.client.indexer import index_tree
from gateway.local.stack import Stack, StackSettings

CODE, TEXT = load_pair("full")
SNIPPETS = [
    "def add(a, b):\n    return a + b\n",
    "class Stack:\n    pass\n",
    "for line in open(path):\n    print(line)\n",
]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random weights of both encoders by name."""
    return {
        CODE.name: make_qwen2(tmp_path_factory.mktemp("qwen2"), layers=1),
        TEXT.name: make_jina(tmp_path_factory.mktemp("jina"), TEXT, layers=1),
    }


@pytest.fixture(scope="module")
def full_repository(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both encoders, published from these checkpoints by the command, in this process: torch is loaded here."""
    repository = tmp_path_factory.mktemp("full")
    for name, checkpoint in checkpoints.items():
        words = ["publish", "--encoder", name, "--checkpoint", str(checkpoint), "--repository", str(repository)]
        words += ["--precision", "fp32", "--gate-pairs", "20", "--gate-longest", "64"]
        published = CliRunner().invoke(app, words)
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
def full_client(full_stack: Stack) -> Iterator[Client]:
    with Client(full_stack.endpoint, api_key=full_stack.api_key) as client:
        yield client


def unit(vector: torch.Tensor) -> NDArray[np.float64]:
    """Norm 1, in float64."""
    values: NDArray[np.float64] = vector.double().numpy()
    return values / np.linalg.norm(values)


def reference(checkpoints: dict[str, Path], text: str, input_type: str) -> NDArray[np.float64]:
    """normalize([√½·code ; √½·text]) by transformers and PEFT alone, one text at a time."""
    how = getattr(TEXT, input_type)
    with quiet_transformers(), torch.inference_mode():
        code_folder, text_folder = checkpoints[CODE.name], checkpoints[TEXT.name]
        code: Any = Qwen2Model.from_pretrained(code_folder, dtype=torch.float32)
        ids = Tokenizer.from_file(str(code_folder / "tokenizer.json")).encode(text).ids
        code_part = unit(code.eval()(input_ids=torch.tensor([ids])).last_hidden_state[0, -1])
        base = JinaEmbeddingsV3Model.from_pretrained(text_folder, dtype=torch.float32, add_pooling_layer=False)
        jina: Any = PeftModel.from_pretrained(base, str(text_folder / task_folder(how.task)))
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
