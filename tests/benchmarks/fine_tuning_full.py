"""Training of a full-size encoder: tokens/s, and the share of the GPU's peak; a line, and one of JSON.

    python -m tests.benchmarks.fine_tuning_full DATA [--base FOLDER] [--recipe training/recipes/qodo-embed-1-1.5b.toml]
        [--device cuda] [--steps 20]

DATA is a mined set, the base the checkpoint's folder. The peak is that of a large square product in the recipe's
precision on the same device. Counted are linear layers alone: a frozen weight takes four operations a token, two
forwards and two for what flows back through it, a trained one two more (Kaplan et al. 2020, arXiv:2001.08361, 2.1).
Attention's own products, and what gradient checkpointing computes twice, count nothing. Not run on a GPU yet.
"""

import argparse
import re
import statistics
import tempfile
import time
from pathlib import Path

import torch

from export.source import open_checkpoint
from tests.benchmarks.keeping import keep, rounded
from training.model import build_model
from training.progress import read_metrics
from training.recipe import load_recipe
from training.run import RunRequest, train

ROOT = Path(__file__).parents[2]
SQUARE = {"cuda": 8192, "cpu": 2048}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# The first ones compile, and fill caches.
WARM_STEPS = 3


def flops_per_token(model: torch.nn.Module) -> int:
    """Operations of a training step for one token of it."""
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    return sum((6 if layer.weight.requires_grad else 4) * layer.weight.numel() for layer in layers)


def peak_flops_per_s(device: str, dtype: torch.dtype) -> float:
    """Of a square product, the median of ten."""
    size = SQUARE[torch.device(device).type]
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times = []
    for _ in range(12):
        begun_s = time.perf_counter()
        left @ right
        if left.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun_s)
    return 2 * size**3 / statistics.median(times[2:])


def measure(data: Path, base: Path | None, recipe_path: Path, device: str, steps: int) -> dict[str, float]:
    """Train a few steps of a recipe from a checkpoint."""
    recipe, spec, _ = load_recipe(recipe_path)
    counted = flops_per_token(build_model(spec.untrained, open_checkpoint(spec.untrained, base), recipe).model)
    with tempfile.TemporaryDirectory() as name:
        short = Path(name) / "recipe.toml"
        text = re.sub(r"^max_steps = .*\n", "", recipe_path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        short.write_text(text.replace("[optimizer]\n", f"[optimizer]\nmax_steps = {steps}\n"), encoding="utf-8")
        train(RunRequest(short, data, Path(name) / "run", base, device))
        lines = read_metrics(Path(name) / "run" / "metrics.jsonl")[WARM_STEPS:]
    tokens_per_s = statistics.median(line["tokens_per_s"] for line in lines)
    peak = peak_flops_per_s(device, DTYPES[recipe.optimizer.precision])
    return {
        "tokens_per_s": tokens_per_s,
        "gflops_per_token": counted / 1e9,
        "tflops_per_s": tokens_per_s * counted / 1e12,
        "peak_tflops_per_s": peak / 1e12,
        "share_of_peak": tokens_per_s * counted / peak,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if torch.device(device).type == "cuda" else 0.0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--base", type=Path, help="checkpoint's folder; by default the spec's source")
    parser.add_argument("--recipe", type=Path, default=ROOT / "training" / "recipes" / "qodo-embed-1-1.5b.toml")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    figures = measure(arguments.data, arguments.base, arguments.recipe, arguments.device, arguments.steps)
    print("  ".join(f"{name} {value:,.3f}" for name, value in figures.items()))
    of = {"recipe": arguments.recipe.stem, "device": arguments.device, "steps": arguments.steps}
    keep("fine_tuning_full", {**of, "figures": rounded(figures)}, only_print=arguments.device == "cpu")


if __name__ == "__main__":
    main()
