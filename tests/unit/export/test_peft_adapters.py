"""PEFT's folders: stacked by task, merged for an encoder without tasks, refused where they are more than LoRA."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import Qwen2Model

from export.encoder import build_encoder
from export.errors import ExportError
from export.peft_adapters import load_peft
from export.source import open_checkpoint
from export.spec import load_builtin
from export.transformer import quiet_transformers

QODO = load_builtin("qodo-embed-1-1.5b")
JINA = load_builtin("jina-embeddings-v3")


@pytest.mark.parametrize("use_rslora", [False, True])
def test_adapter_of_an_encoder_without_tasks_is_merged(qwen2_folder: Path, tmp_path: Path, use_rslora: bool) -> None:
    """A fine-tuned Qodo: the base with PEFT's adapter beside it equals PEFT's own forward pass."""
    folder = tmp_path / "tuned"
    shutil.copytree(qwen2_folder, folder)
    config = LoraConfig(
        r=8, lora_alpha=32, target_modules=["q_proj", "v_proj"], init_lora_weights=False, use_rslora=use_rslora
    )
    ids = torch.randint(1, 250, (1, 24), generator=torch.Generator().manual_seed(1))
    with quiet_transformers(), torch.inference_mode():
        torch.manual_seed(3)
        get_peft_model(Qwen2Model.from_pretrained(folder), config).save_pretrained(str(folder))
        base: Any = Qwen2Model.from_pretrained(qwen2_folder)
        untuned = base.eval()(input_ids=ids).last_hidden_state[:, -1]
        tuned: Any = PeftModel.from_pretrained(base, folder)
        expected = tuned.eval()(input_ids=ids).last_hidden_state[:, -1]
        given = build_encoder(QODO, open_checkpoint(QODO, folder))[0](ids, torch.ones_like(ids))
    expected = expected / expected.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=0)
    assert float((given * untuned / untuned.norm()).sum()) < 0.999


def test_stacks_follow_the_order_of_the_tasks(jina_folder: Path) -> None:
    """Task id 2 is `separation`, whatever the order of the folders on disk."""
    adapters = load_peft(jina_folder, JINA)
    assert adapters.scale == 0.25
    assert "embeddings.word_embeddings" in adapters.layers
    reversed_tasks = dataclasses.replace(JINA, tasks=tuple(reversed(JINA.tasks)))
    other = load_peft(jina_folder, reversed_tasks)
    for layer, adapter in adapters.layers.items():
        assert adapter.A_TRI.shape[:2] == (5, 4)
        assert np.array_equal(adapter.A_TRI, other.layers[layer].A_TRI[::-1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "use_dora is not exported; train plain LoRA, or merge it with PEFT first"),
        ({"bias": "all"}, "bias 'all' is not exported"),
        ({"peft_type": "LOHA"}, "peft_type 'LOHA' is not exported"),
        ({"modules_to_save": ["norm"]}, "modules_to_save is not exported"),
        ({"lora_alpha": 2}, "alpha / rank is 0.5, that of .*retrieval_query is 0.25"),
        ({"r": "many"}, "is not PEFT's configuration"),
    ],
)
def test_what_is_more_than_lora_is_refused(
    jina_folder: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    """Ignoring it would export another model."""
    shutil.copytree(jina_folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "separation" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ExportError, match=message):
        load_peft(tmp_path, JINA)


def test_missing_task_is_refused_by_its_file(jina_folder: Path, tmp_path: Path) -> None:
    """Five tasks or none."""
    shutil.copytree(jina_folder, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "text_matching")
    with pytest.raises(ExportError, match=r"cannot read .*text_matching/adapter_config\.json: No such file"):
        load_peft(tmp_path, JINA)
