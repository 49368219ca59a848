"""The full pair's recipes on its architectures with few layers and random weights: trained, and read by the export."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mined_data import write_data
from safetensors.numpy import load_file
from tiny_models import make_jina, make_qwen2

from export.encoder import build_encoder
from export.gate.reference import Reference
from export.gate.rows import PublishedTokenizer, RowMaker
from export.source import open_checkpoint
from export.spec import load_builtin
from training.run import RunRequest, train

ROOT = Path(__file__).parents[3]
# What makes minutes of hours; everything else is the recipe's own.
_SMALL = {
    "query_tokens": 16,
    "passage_tokens": 32,
    "batch": 4,
    "mini_batch": 2,
    "rows_an_epoch": 120,
    "precision": '"fp32"',
}


def _small(name: str, folder: Path) -> Path:
    text = (ROOT / "training" / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    for key, value in _SMALL.items():
        text, found = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
        assert found == 1, key
    path = folder / "recipe.toml"
    path.write_text(text.replace("batch = 4\n", "batch = 4\nmax_steps = 2\n", 1), encoding="utf-8")
    return path


def _same_as_peft(name: str, result: Path) -> None:
    """What the export builds from the run's folder as it is gives the vectors of transformers and PEFT."""
    spec = load_builtin(name)
    checkpoint = open_checkpoint(spec, result)
    maker = RowMaker(spec, PublishedTokenizer(checkpoint.tokenizer_path, spec))
    rows = [maker.row(length, number) for number, length in enumerate((12, 20, 7, 16, 30))]
    expected = Reference(spec, checkpoint).vectors(rows)
    encoder, _ = build_encoder(spec, checkpoint)
    for row, vector_D in zip(rows, expected, strict=True):
        ids = torch.tensor([row.ids])
        task = (torch.tensor([[row.task]]),) if spec.tasks else ()
        with torch.inference_mode():
            given = encoder(ids, torch.ones_like(ids), *task)[0].numpy()
        np.testing.assert_allclose(given, vector_D, atol=2e-5)


def test_qodo_s_recipe_gives_what_the_export_reads(tmp_path: Path) -> None:
    """PEFT's adapter beside the base that it was trained on; gradient checkpointing and the cached loss are on."""
    base = make_qwen2(tmp_path / "base", layers=1)
    data = write_data(tmp_path / "mined", limit=120)
    recipe = _small("qodo-embed-1-1.5b", tmp_path)
    notes: list[str] = []
    result = train(RunRequest(recipe, data, tmp_path / "run", base, "cpu"), notes.append)
    # Its shares name styles that these rows lack, as rows of code without git history do.
    absent = ["code", "commit", "symbol", "test_name"]
    assert json.loads((result / "lineage.json").read_text())["absent_styles"] == absent
    assert notes == [f"{data} has no query of style {', '.join(absent)}: their shares go to the other styles"]
    adapter = load_file(result / "adapter_model.safetensors")
    assert len(adapter) == 4 * 2  # targets, A and B
    assert all(np.any(one) for name, one in adapter.items() if "lora_B" in name)
    _same_as_peft("qodo-embed-1-1.5b", result)


def test_jina_s_recipe_trains_two_tasks_and_leaves_three(tmp_path: Path) -> None:
    """Queries and passages go on learning from their adapters; the other tasks' adapters stay bit for bit."""
    spec = load_builtin("jina-embeddings-v3")
    base = make_jina(tmp_path / "base", spec, layers=1)
    data = write_data(tmp_path / "mined", limit=120)
    result = train(RunRequest(_small(spec.name, tmp_path), data, tmp_path / "run", base, "cpu"))
    for task in spec.tasks:
        folder = task.replace(".", "_").replace("-", "_")
        before = load_file(base / folder / "adapter_model.safetensors")
        after = load_file(result / folder / "adapter_model.safetensors")
        assert after.keys() == before.keys()
        changed = any(not np.array_equal(after[name], before[name]) for name in before)
        assert changed == task.startswith("retrieval."), task
    _same_as_peft(spec.name, result)


@pytest.mark.parametrize("name", ["compact-code", "compact-text"])
def test_the_compact_adapters_come_from_their_recipes(name: str) -> None:
    """The committed weights carry the recipe that made them, and are small enough for git."""
    adapters = load_builtin(name).adapters
    assert adapters is not None
    assert (adapters.path / "recipe.toml").read_bytes() == (ROOT / "training/recipes" / f"{name}.toml").read_bytes()
    assert sum(path.stat().st_size for path in adapters.path.iterdir()) <= 5_000_000
