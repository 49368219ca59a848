"""Training of the compact code encoder: tokens/s and peak memory against sentence-transformers' defaults on the same
rows, and the gradient against finite differences, the predecessor's method.

    python -m tests.benchmarks.fine_tuning DATA [STEPS]

Every measurement is a process of its own, so that peaks do not add up. Prints a table, then one JSON
line, kept in results/fine_tuning.json.
"""

import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from export.source import open_checkpoint
from export.transformer import quiet_transformers
from tests.benchmarks.keeping import keep, rounded
from training.dataset import columns_of, load_rows, training_rows
from training.losses import build_loss
from training.model import TrainedEncoder, build_model
from training.progress import read_metrics
from training.recipe import load_recipe
from training.run import RunRequest, train

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "training" / "recipes" / "compact-code.toml"
PROBES = 24  # parameters whose finite difference is really computed
STEP = 1e-2


def ours(data: Path, steps: int) -> dict[str, float]:
    """The committed recipe, cut to a few steps."""
    with tempfile.TemporaryDirectory() as name:
        recipe = Path(name) / "recipe.toml"
        text = RECIPE.read_text(encoding="utf-8")
        cut, found = re.subn(r"^max_steps = \d+$", f"max_steps = {steps}", text, flags=re.MULTILINE)
        assert found == 1, f"{RECIPE} has {found} lines max_steps"
        recipe.write_text(cut, encoding="utf-8")
        train(RunRequest(recipe, data, Path(name) / "run", None, "cpu"))
        lines = read_metrics(Path(name) / "run" / "metrics.jsonl")[2:]
    return {"tokens_per_s": sum(line["tokens_per_s"] for line in lines) / len(lines)}


def defaults(data: Path, steps: int) -> dict[str, float]:
    """sentence-transformers as its documentation starts: all weights, fp32, its batch size and sampler."""
    recipe, spec, _ = load_recipe(RECIPE)
    columns = columns_of(training_rows(load_rows(data, "train"), recipe.data, recipe.seed, data), recipe.data, 0)
    with quiet_transformers():
        model = SentenceTransformer(str(open_checkpoint(spec.untrained).folder), device="cpu")
    tokens = 0

    class Counting(SentenceTransformerTrainer):
        def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            nonlocal tokens
            tokens += sum(int(mask.sum()) for name, mask in args[1].items() if name.endswith("attention_mask"))
            return super().training_step(*args, **kwargs)

    with tempfile.TemporaryDirectory() as name:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=name, max_steps=steps, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True
        )
        texts = Dataset.from_dict({"query": columns["query"], "positive": columns["positive"]})
        trainer = Counting(model=model, args=arguments, train_dataset=texts, loss=MultipleNegativesRankingLoss(model))
        begun_s = time.perf_counter()
        trainer.train()
    return {"tokens_per_s": tokens / (time.perf_counter() - begun_s)}


def gradient(data: Path, steps: int) -> dict[str, float]:
    """One gradient of all trained parameters by backpropagation, and by central differences.

    Of the differences, `PROBES` are computed, compared with backpropagation's, and their time is scaled to all.
    """
    recipe, spec, _ = load_recipe(RECIPE)
    rows = training_rows(load_rows(data, "train"), recipe.data, recipe.seed, data)[:8]
    encoder: TrainedEncoder = build_model(spec.untrained, open_checkpoint(spec.untrained), recipe)
    loss = build_loss(encoder.model, recipe.loss, spec.dimension, gather=False)
    texts = columns_of(rows, recipe.data, 0)
    features = [encoder.model.preprocess(texts[name]) for name in ("query", "positive")]

    def value() -> torch.Tensor:
        result: torch.Tensor = loss([dict(one) for one in features], None)
        return result

    value().backward()  # warm
    trained = [one for _, one in encoder.trained()]
    for one in trained:
        one.grad = None
    begun_s = time.perf_counter()
    value().backward()
    backward_s = time.perf_counter() - begun_s
    # The steepest entry of each of some matrices: elsewhere fp32 rounding would hide the difference.
    chosen = sorted(trained, key=lambda one: -float(one.grad.abs().max()))[:PROBES]  # type: ignore[union-attr]
    errors = []
    begun_s = time.perf_counter()
    for parameter in chosen:
        assert parameter.grad is not None
        place = int(parameter.grad.abs().argmax())
        flat = parameter.data.view(-1)
        before = float(flat[place])
        with torch.no_grad():
            flat[place] = before + STEP
            above = float(value())
            flat[place] = before - STEP
            below = float(value())
            flat[place] = before
        slope = float(parameter.grad.view(-1)[place])
        errors.append(abs((above - below) / (2 * STEP) - slope) / abs(slope))
    probe_s = (time.perf_counter() - begun_s) / PROBES
    count = sum(one.numel() for one in trained)
    return {
        "parameters": count,
        "backpropagation_s": backward_s,
        "finite_differences_s": probe_s * count,
        "ratio": probe_s * count / backward_s,
        "median_relative_error": sorted(errors)[len(errors) // 2],
    }


MEASUREMENTS = {"ours": ours, "defaults": defaults, "gradient": gradient}


def main() -> None:
    """Run every measurement in a child, or be one."""
    data, steps = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20
    if len(sys.argv) > 3:
        result = MEASUREMENTS[sys.argv[3]](data, steps)
        result["peak_MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(result))
        return
    results = {}
    for name in MEASUREMENTS:
        command = [sys.executable, "-m", "tests.benchmarks.fine_tuning", str(data), str(steps), name]
        child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results[name] = json.loads(child.stdout.splitlines()[-1])
    for name in ("ours", "defaults"):
        print(f"{name:<10} {results[name]['tokens_per_s']:8.0f} tokens/s {results[name]['peak_MiB']:8.0f} MiB")
    gradients = results["gradient"]
    print(
        f"gradient of {gradients['parameters']:,.0f} parameters: {gradients['backpropagation_s']:.2f} s by "
        f"backpropagation, {gradients['finite_differences_s']:,.0f} s by finite differences: {gradients['ratio']:,.0f} "
        f"times; they differ by {gradients['median_relative_error']:.1e}"
    )
    figures = rounded(results)
    # To three decimals it would be 0, and say nothing.
    figures["gradient"]["median_relative_error"] = float(f"{gradients['median_relative_error']:.2e}")
    keep("fine_tuning", {"threads": torch.get_num_threads(), "steps": steps, "figures": figures})


if __name__ == "__main__":
    main()
