"""What a recipe can choose, each for a few steps on a small encoder, and compared with the plain run."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mined_data import write_data
from safetensors.numpy import load_file
from small_recipe import write_base, write_recipe
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from export.encoder import build_encoder
from export.gate.reference import Reference
from export.gate.rows import PublishedTokenizer, RowMaker
from export.source import open_checkpoint
from export.spec import load_spec
from training.run import RunRequest, train

_STEPS = 6
# An encoder without tasks: all weights cannot be trained where each row chooses an adapter.
_WITHOUT_TASKS = (
    ('tasks = ["query", "passage"]\n', "tasks = []\n"),
    ('query = { prompt = "", task = "query" }', 'query = { prompt = "" }'),
    ('passage = { prompt = "", task = "passage" }', 'passage = { prompt = "" }'),
)


@dataclass(frozen=True)
class _Run:
    """A finished run: its recipe, its folder, and by name what was logged of each step."""

    recipe: Path
    output: Path
    logged: dict[str, np.ndarray]


Start = Callable[..., _Run]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Trains a recipe of the small encoder with some lines replaced, and other values of its optimizer."""
    root = tmp_path_factory.mktemp("methods")
    data, base = write_data(root / "mined", limit=120), write_base(root / "base")

    def run(*lines: tuple[str, str], spec: tuple[tuple[str, str], ...] = (), **optimizer: Any) -> _Run:
        folder = root / str(len(list(root.iterdir())))
        recipe = write_recipe(folder, base_dropout=False, **{"max_steps": _STEPS, **optimizer})
        for path, changes in ((recipe, lines), (folder / "small.toml", spec)):
            text = path.read_text()
            for old, new in changes:
                assert text.count(old) == 1, old
                text = text.replace(old, new)
            path.write_text(text)
        if spec:
            (folder / "base").mkdir()
            for one in base.iterdir():
                if one.name != "adapters.safetensors":
                    (folder / "base" / one.name).symlink_to(one)
        train(RunRequest(recipe, data, folder / "run", folder / "base" if spec else base, "cpu"))
        steps = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
        return _Run(recipe, folder / "run", {key: np.array([step[key] for step in steps]) for key in steps[0]})

    return run


@pytest.fixture(scope="module")
def plain(start: Start) -> _Run:
    """In-batch contrastive loss, fp32, LoRA."""
    return start()


def _weights(run: _Run) -> dict[str, np.ndarray]:
    return load_file(run.output / "result" / "adapters.safetensors")


@pytest.fixture
def passes() -> Iterator[list[str]]:
    """One entry for each forward pass of a layer: of what is within it, for the layer itself is not called again."""
    seen: list[str] = []

    def note(module: torch.nn.Module, _: object) -> None:
        if type(module).__name__ == "BertSelfAttention":
            seen.append(type(module).__name__)

    handle = register_module_forward_pre_hook(note)
    yield seen
    handle.remove()


@pytest.mark.parametrize(
    ("lines", "optimizer", "repeated"),
    [
        # Eight rows in parts of three, each once without gradients and once with.
        ((("[data]\n", '[loss]\nname = "cached-contrastive"\nmini_batch = 3\n[data]\n'),), {}, 6),
        ((), {"gradient_checkpointing": True}, 2),
    ],
    ids=["cached", "gradient checkpointing"],
)
def test_what_saves_memory_computes_more_and_changes_no_result(
    lines: tuple[tuple[str, str], ...],
    optimizer: dict[str, Any],
    repeated: int,
    plain: _Run,
    passes: list[str],
    start: Start,
) -> None:
    """The same losses, norms and weights, but for the order of additions."""
    run = start(*lines, **optimizer)
    assert len(passes) == repeated * _STEPS * 2 * 2  # queries and passages, through two layers
    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose(run.logged[name], plain.logged[name], rtol=2e-3)
    for name, weight in _weights(plain).items():
        np.testing.assert_allclose(_weights(run)[name], weight, atol=2e-3)


def test_bf16_computes_in_bf16_and_learns_nearly_the_same(start: Start, plain: _Run) -> None:
    """Equal losses would say that nothing was rounded; other ones that more was."""
    run = start(precision="bf16")
    assert not np.array_equal(run.logged["loss"], plain.logged["loss"])
    np.testing.assert_allclose(run.logged["loss"], plain.logged["loss"], rtol=0.03)


def test_matryoshka_adds_the_loss_of_the_first_dimensions(start: Start, plain: _Run) -> None:
    """Of 64 and 16 besides all: three losses of much the same size before anything is learnt."""
    run = start(("[data]\n", "[loss]\nmatryoshka = [64, 16]\n[data]\n"))
    assert 2.0 < run.logged["loss"][0] / plain.logged["loss"][0] < 4.5
    assert run.logged["loss"][-2:].mean() < run.logged["loss"][:2].mean()


def test_the_triplet_loss_learns(start: Start) -> None:
    """It falls below the margin, which it is where query and negative are as near as query and passage."""
    lines = ("[data]\n", '[loss]\nname = "triplet"\nmargin = 0.3\n[data]\nhard_negatives = 1\n')
    losses = start(lines, max_steps=12, learning_rate=5e-3).logged["loss"]
    assert losses[-3:].mean() < 0.8 * losses[:3].mean() < 0.3


def test_all_weights_are_trained_and_the_export_reads_them(start: Start) -> None:
    """Every matrix moved; what the export builds gives transformers' vectors of the folder."""
    run = start(('encoder = "small.toml"\n', 'encoder = "small.toml"\nmethod = "full"\n'), spec=_WITHOUT_TASKS)
    before = load_file(run.recipe.parent / "base" / "model.safetensors")
    after = load_file(run.output / "result" / "model.safetensors")
    kept = load_file(run.output / "checkpoints" / f"checkpoint-{_STEPS}" / "trained.safetensors")
    moved = [name for name in after if not np.array_equal(after[name], before[name])]
    assert {name for name in after if "attention" in name and name.endswith("weight")} <= set(moved)
    for name in moved:
        (trained,) = [one for key, one in kept.items() if key.endswith(f".{name}")]
        np.testing.assert_array_equal(after[name], trained)
    spec = load_spec(run.recipe.parent / "small.toml")
    checkpoint = open_checkpoint(spec, run.output / "result")
    maker = RowMaker(spec, PublishedTokenizer(checkpoint.tokenizer_path, spec))
    rows = [maker.row(length, number) for number, length in enumerate((12, 20, 7))]
    encoder, _ = build_encoder(spec, checkpoint)
    for row, vector_D in zip(rows, Reference(spec, checkpoint).vectors(rows), strict=True):
        ids = torch.tensor([row.ids])
        with torch.inference_mode():
            given = encoder(ids, torch.ones_like(ids))[0].numpy()
        np.testing.assert_allclose(given, vector_D, atol=2e-5)


@pytest.fixture
def norms() -> Iterator[list[float]]:
    """The norm of all gradients at each step, as the optimizer gets them."""
    seen: list[float] = []

    def note(optimizer: torch.optim.Optimizer, *_: object) -> None:
        gradients = [one.grad for group in optimizer.param_groups for one in group["params"] if one.grad is not None]
        seen.append(float(sum(one.double().square().sum() for one in gradients)) ** 0.5)

    handle = register_optimizer_step_pre_hook(note)
    yield seen
    handle.remove()


def test_gradients_are_clipped_to_the_recipe_s_norm(start: Start, norms: list[float]) -> None:
    """What is logged is the norm before clipping; what the optimizer gets is the limit."""
    run = start(max_gradient_norm=0.01)
    assert run.logged["grad_norm"].min() > 0.02
    np.testing.assert_allclose(norms, 0.01, rtol=1e-3)
    assert len(norms) == _STEPS


def test_tensorboard_has_what_the_metrics_have(plain: _Run) -> None:
    """Loss, norm, learning rate and speed of each step."""
    events = EventAccumulator(str(plain.output / "tensorboard"))
    events.Reload()
    for name in ("loss", "grad_norm", "learning_rate", "tokens_per_s"):
        scalars = events.Scalars(f"train/{name}")
        assert [one.step for one in scalars] == plain.logged["step"].tolist()
        np.testing.assert_allclose([one.value for one in scalars], plain.logged[name], rtol=1e-6)
