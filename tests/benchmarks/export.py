"""How fast, how exact and how large one encoder is on every runtime and precision that this machine runs.

Usage: python -m tests.benchmarks.export [--encoder compact-code] [--repeats 7]
Prints a table, then one JSON line, kept in results/export.json. On a quiet machine.

Every variant runs in a process of its own, so that its peak memory is its own. Rounds are interleaved: what slows the
machine down for a while slows all of them. The figure is the median round.
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.deployment import TOKEN_BUDGET, buckets_up_to
from export.errors import ExportError
from export.gate.rows import PublishedTokenizer, Row, RowMaker, pad
from export.python_backend.host import group_by_length, open_session
from export.serving import Precision, Runtime, Serving, cpu_flags, resolve_precision
from export.source import open_checkpoint, write_tokenizer
from export.spec import EncoderSpec, load_builtin
from tests.benchmarks.keeping import keep

TORCH = "torch"
VARIANTS = (
    (TORCH, "fp32"),
    ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)
# Tokens of a bucket's rows.
BUCKET_TOKENS = 4096
LONGEST_BUCKET = 2048
Feeds = dict[str, NDArray[np.int64]]


def export_variants(spec: EncoderSpec, folder: Path) -> None:
    """Write `fp32/` and `int8/` with the graph and the tokenizer."""
    from export.encoder import build_encoder
    from export.onnx_export import export_onnx
    from export.quantize import calibration_feeds, quantize_int8

    checkpoint = open_checkpoint(spec)
    encoder, _ = build_encoder(spec, checkpoint)
    for name in ("fp32", "int8"):
        (folder / name).mkdir()
        export_onnx(encoder, spec, folder / name)
        write_tokenizer(checkpoint, folder / name / "tokenizer.json")
    del encoder
    quantize_int8(folder / "int8", calibration_feeds(spec, folder / "int8" / "tokenizer.json"))


def graph_folder(folder: Path, precision: str) -> Path:
    """Where a precision's graph lies; OpenVINO makes bf16 of the fp32 graph."""
    return folder / ("int8" if precision == "int8" else "fp32")


def micro_batches(spec: EncoderSpec, tokenizer_path: Path) -> dict[int, list[Feeds]]:
    """Real code of every length bucket, in the micro-batches that the Python backend would make of it."""
    maker = RowMaker(spec, PublishedTokenizer(tokenizer_path, spec))
    batches: dict[int, list[Feeds]] = {}
    shortest = 3
    for bucket in buckets_up_to(min(LONGEST_BUCKET, spec.max_tokens)):
        count = max(1, 2 * BUCKET_TOKENS // (shortest + bucket))
        lengths = np.linspace(shortest, bucket, count).round().astype(int).tolist()
        rows = [maker.row(length, number) for number, length in enumerate(lengths)]
        groups = group_by_length(np.array(lengths), TOKEN_BUDGET)
        batches[bucket] = [_padded(spec, [rows[index] for index in group.tolist()]) for group in groups]
        shortest = bucket + 1
    return batches


def _padded(spec: EncoderSpec, rows: list[Row]) -> Feeds:
    return pad(rows, max(len(row.ids) for row in rows), has_tasks=bool(spec.tasks))


def torch_runner(spec: EncoderSpec, threads: int) -> Callable[[Feeds], None]:
    """transformers' own class with SDPA attention, as a user would run it; adapters aside, which are merged."""
    import torch
    from transformers import AutoModel

    torch.set_num_threads(threads)
    folder = open_checkpoint(spec).folder
    model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()

    def run(feeds: Feeds) -> None:
        ids, mask = (torch.from_numpy(feeds[name]) for name in ("input_ids", "attention_mask"))
        with torch.inference_mode():
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state
            (states * mask.unsqueeze(-1)).sum(1)

    return run


def serve_rounds(encoder: str, folder: Path, runtime: str, precision: str, threads: int) -> None:
    """A variant's process: one round for every line on stdin, seconds by bucket out; at the end its peak memory."""
    spec = load_builtin(encoder)
    graph = graph_folder(folder, precision)
    run: Callable[[Feeds], object]
    if runtime == TORCH:
        run = torch_runner(spec, threads)
    else:
        run = open_session(runtime, graph / "model.onnx", precision, threads).run
    batches = micro_batches(spec, graph / "tokenizer.json")
    for line in sys.stdin:
        if line.strip() == "stop":
            break
        seconds = {}
        for bucket, feeds in batches.items():
            started = time.perf_counter()
            for one in feeds:
                run(one)
            seconds[bucket] = time.perf_counter() - started
        print(json.dumps(seconds), flush=True)
    status = Path("/proc/self/status").read_text()
    peak_kib = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    print(json.dumps({"peak_mib": round(peak_kib / 1024)}), flush=True)


def time_variants(
    spec: EncoderSpec, folder: Path, variants: list[tuple[str, str]], threads: int, repeats: int
) -> list[dict[str, Any]]:
    """Tokens a second by bucket, and peak memory, of every variant."""
    tokens = {
        bucket: sum(int(feeds["attention_mask"].sum()) for feeds in batches)
        for bucket, batches in micro_batches(spec, folder / "fp32" / "tokenizer.json").items()
    }
    children = []
    for runtime, precision in variants:
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.export",
            "--child",
            spec.name,
            str(folder),
            runtime,
            precision,
            str(threads),
        ]
        children.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    rounds: list[list[dict[str, float]]] = [[] for _ in children]
    for repeat in range(repeats + 1):
        for index, child in enumerate(children):
            seconds = _ask(child, "round")
            if repeat:  # the first one compiles, and is not counted
                rounds[index].append(seconds)
    results = []
    for (runtime, precision), child, measured in zip(variants, children, rounds, strict=True):
        peak_mib = _ask(child, "stop")["peak_mib"]
        child.wait()
        speed = {
            bucket: round(count / statistics.median(seconds[str(bucket)] for seconds in measured))
            for bucket, count in tokens.items()
        }
        results.append({"runtime": runtime, "precision": precision, "tokens_per_s": speed, "peak_mib": peak_mib})
    return results


def _ask(child: "subprocess.Popen[str]", word: str) -> dict[str, float]:
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(f"{word}\n")
    child.stdin.flush()
    answer: dict[str, float] = json.loads(child.stdout.readline())
    return answer


def quality(spec: EncoderSpec, folder: Path, runtime: str, precision: str, threads: int) -> dict[str, Any]:
    """What the gate says of a variant; torch is what the others are compared with."""
    if runtime == TORCH:
        return {"min_cosine": 1.0, "top10_overlap": 1.0, "ndcg_ratio": 1.0, "passed": True}
    from export.gate.gate import measure

    serving = Serving(Runtime(runtime), Precision(precision), threads)
    report = measure(spec, open_checkpoint(spec), graph_folder(folder, precision), serving)
    retrieval = report.retrieval
    return {
        "min_cosine": round(report.min_cosine, 6),
        "top10_overlap": round(retrieval.overlap_at_10, 4),
        "ndcg_ratio": round(retrieval.exported.ndcg_at_10 / retrieval.reference.ndcg_at_10, 4),
        "passed": report.passed,
    }


def print_table(results: list[dict[str, Any]]) -> None:
    """One line a variant."""
    buckets = list(results[0]["tokens_per_s"])
    header = "".join(f"{f'≤ {bucket}':>9}" for bucket in buckets)
    print(f"{'tokens/s at length':<20}{header}{'MiB':>7}{'min cos':>10}{'overlap':>9}{'nDCG':>8}  gate")
    for one in results:
        speed = "".join(f"{one['tokens_per_s'][bucket]:>9}" for bucket in buckets)
        print(
            f"{one['runtime']:<12}{one['precision']:<8}{speed}{one['peak_mib']:>7}{one['min_cosine']:>10.5f}"
            f"{one['top10_overlap']:>9.3f}{one['ndcg_ratio']:>8.4f}  {'passed' if one['passed'] else 'refused'}"
        )


def cpu_model() -> str:
    """The CPU's name as the kernel gives it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))


def main() -> None:
    """Export, time, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="compact-code")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    spec, threads = load_builtin(arguments.encoder), len(os.sched_getaffinity(0))
    variants = list(VARIANTS)
    try:
        resolve_precision("bf16", Runtime.OPENVINO, Precision.BF16, cpu_flags())
    except ExportError as exc:
        print(f"without OpenVINO bf16: {exc}", file=sys.stderr)
        variants.remove(("openvino", "bf16"))
    with tempfile.TemporaryDirectory(prefix="duovec-bench-") as temporary:
        folder = Path(temporary)
        export_variants(spec, folder)
        results = time_variants(spec, folder, variants, threads, arguments.repeats)
        for one in results:
            one |= quality(spec, folder, one["runtime"], one["precision"], threads)
    print_table(results)
    names = ("torch", "transformers", "onnxruntime", "openvino", "nncf")
    document = {
        "encoder": spec.name,
        "cpu": cpu_model(),
        "threads": threads,
        "repeats": arguments.repeats,
        "versions": {name: importlib.metadata.version(name) for name in names},
        "variants": results,
    }
    keep("export", document)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        serve_rounds(sys.argv[2], Path(sys.argv[3]), sys.argv[4], sys.argv[5], int(sys.argv[6]))
    else:
        main()
