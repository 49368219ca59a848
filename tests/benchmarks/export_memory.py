"""Peak memory of exporting a full-size Qodo-Embed-1-1.5B to ONNX: true dimensions, random weights.

Run: python -m tests.benchmarks.export_memory [--folder DIR] [--precision fp32|fp16|bf16]
Needs 12 GB of disk in DIR. Prints a table, then one JSON line, kept in results/export_memory.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.keeping import keep

# Qodo-Embed-1-1.5B's config.json: 1.54 billion parameters.
CONFIG = {
    "vocab_size": 151646,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "max_position_embeddings": 131072,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    "use_sliding_window": False,
}

TOKENS = list(range(100, 124))


def make_checkpoint(folder: Path) -> None:
    """Random bf16 weights in shards, as the hub has them, and a tokenizer of bytes."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import Qwen2Config, Qwen2Model

    torch.manual_seed(0)
    config = Qwen2Config(**CONFIG)
    torch.set_default_dtype(torch.bfloat16)
    Qwen2Model(config).save_pretrained(folder, max_shard_size="2GB")
    vocabulary = {token: number for number, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    Tokenizer(models.BPE(vocab=vocabulary, merges=[])).save(str(folder / "tokenizer.json"))


def export(checkpoint: Path, target: Path, precision: str) -> None:
    """The export itself: what `duovec-export build` does up to the gate; and one vector of torch, to compare with."""
    import numpy as np
    import torch

    from export.encoder import build_encoder
    from export.onnx_export import export_onnx
    from export.source import open_checkpoint
    from export.spec import load_builtin
    from export.transformer import set_matmul_precision

    spec = load_builtin("qodo-embed-1-1.5b")
    encoder, _ = build_encoder(spec, open_checkpoint(spec, checkpoint))
    if precision != "fp32":
        set_matmul_precision(encoder.transformer, precision)
    with torch.inference_mode():
        vector = encoder(torch.tensor([TOKENS]), torch.ones((1, len(TOKENS)), dtype=torch.int64))
    np.save(target.parent / "vector.npy", vector.numpy())
    export_onnx(encoder, spec, target)


def check(target: Path) -> float:
    """Cosine of the written graph's vector, in onnxruntime, to torch's."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(target / "model.onnx", providers=["CPUExecutionProvider"])
    ids = np.array([TOKENS], dtype=np.int64)
    vector = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
    return float(np.sum(vector * np.load(target.parent / "vector.npy")))


def child(step: str, *arguments: str) -> dict[str, float]:
    """Run a step in a process of its own; its seconds, its peak resident memory in GiB and what else it prints."""
    started = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.export_memory", f"--{step}", *arguments],
        check=True,
        stdout=subprocess.PIPE,
    )
    return {"seconds": round(time.monotonic() - started, 1), **json.loads(process.stdout)}


def peak_gib() -> float:
    """VmHWM of this process: the most memory it had resident, mapped files included."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return round(kib / 2**20, 2)


def main() -> None:
    """Make the checkpoint, export it in a child, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to put 12 GB for the time of the run")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "fp16", "bf16"])
    parser.add_argument("--make", nargs=1, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--export", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--check", nargs=1, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        make_checkpoint(arguments.make[0])
    if arguments.export:
        export(Path(arguments.export[0]), Path(arguments.export[1]), arguments.export[2])
    cosine = {"cosine": check(arguments.check[0])} if arguments.check else {}
    if arguments.make or arguments.export or arguments.check:
        print(json.dumps({"peak_gib": peak_gib(), **cosine}))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        checkpoint, target = Path(name) / "checkpoint", Path(name) / "exported"
        checkpoint.mkdir()
        target.mkdir()
        child("make", str(checkpoint))
        measured = child("export", str(checkpoint), str(target), arguments.precision)
        checked = child("check", str(target)) if arguments.precision != "bf16" else {}  # which onnxruntime's CPU lacks
        written = sum(path.stat().st_size for path in target.iterdir())
        result = {
            "parameters_billion": 1.54,
            "precision": arguments.precision,
            **measured,
            "onnxruntime_cosine": checked.get("cosine"),
            "onnxruntime_peak_gib": checked.get("peak_gib"),
            "written_gib": round(written / 2**30, 2),
            "files": sorted(path.name for path in target.iterdir()),
        }
    for key, value in result.items():
        print(f"{key:>20}  {value}")
    keep("export_memory", result)


if __name__ == "__main__":
    main()
