"""One peer in its own environment: both encoders loaded, a JSON line on stdin for each measurement, one back.

Usage: python -P peers_worker.py sentence-transformers|infinity VARIANT CODE_FOLDER TEXT_FOLDER
Asked: {"texts": [...], "at_once": bool, "vectors": path or null}. Answered: {"seconds": s}, from texts to vectors.
Nothing of this project is imported: the peers' environments have none of it.
"""

import asyncio
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np


class Peer(Protocol):
    """Both encoders of a peer."""

    def embed(self, texts: list[str], at_once: bool) -> list[Any]:
        """Unit vectors (B, D) of each encoder: one after the other, or both at the same time."""


class SentenceTransformers:
    """`encode` as it comes: batches of 32, sorted by length in characters; bf16 by one more call."""

    def __init__(self, variant: str, folders: list[Path]) -> None:
        from sentence_transformers import SentenceTransformer

        self._models = [SentenceTransformer(str(folder), device="cpu") for folder in folders]
        if variant == "bf16":
            self._models = [model.bfloat16() for model in self._models]

    def embed(self, texts: list[str], at_once: bool) -> list[Any]:
        """See `Peer.embed`."""

        def encode(model: Any) -> Any:
            return model.encode(texts, show_progress_bar=False)

        if not at_once:
            return [encode(model) for model in self._models]
        with ThreadPoolExecutor(len(self._models)) as pool:
            return list(pool.map(encode, self._models))


class Infinity:
    """infinity's engine in this process, without its HTTP server, which only costs; its own batching."""

    def __init__(self, variant: str, folders: list[Path]) -> None:
        from infinity_emb import AsyncEmbeddingEngine, EngineArgs  # type: ignore[import-not-found]

        self._loop = asyncio.new_event_loop()
        self._heads: list[Any] = [None for _ in folders]
        if variant == "onnx":
            from safetensors.numpy import load_file

            self._heads = [load_file(folder / "2_Dense" / "model.safetensors")["linear.weight"] for folder in folders]
            folders = [_onnx_folder(folder) for folder in folders]
        self._engines = [
            AsyncEmbeddingEngine.from_args(
                EngineArgs(
                    model_name_or_path=str(folder),
                    engine="optimum" if variant == "onnx" else "torch",
                    device="cpu",
                    pooling_method="mean",
                    model_warmup=False,
                )
            )
            for folder in folders
        ]
        for engine in self._engines:
            self._loop.run_until_complete(engine.astart())

    def embed(self, texts: list[str], at_once: bool) -> list[Any]:
        """See `Peer.embed`."""

        async def both() -> list[Any]:
            works: list[Coroutine[Any, Any, Any]] = [engine.embed(sentences=texts) for engine in self._engines]
            if at_once:
                return list(await asyncio.gather(*works))
            return [await work for work in works]

        replies = self._loop.run_until_complete(both())
        return [
            self._with_head(np.stack(vectors), head) for (vectors, _), head in zip(replies, self._heads, strict=True)
        ]

    @staticmethod
    def _with_head(vectors_BH: Any, head_DH: Any) -> Any:
        # The ONNX engine runs no Dense module: its caller multiplies. Linear, so that the norm before does not matter.
        if head_DH is None:
            return vectors_BH
        vectors_BD = vectors_BH @ head_DH.T
        return vectors_BD / np.linalg.norm(vectors_BD, axis=1, keepdims=True)


def _onnx_folder(folder: Path) -> Path:
    """The encoder without its head, exported and optimized by optimum just as infinity's ONNX engine would.

    infinity 0.0.78 looks a local folder's graph up by its whole path and optimum 2 by its name alone, so that it opens
    none; a graph that it finds optimized already it opens by its name.
    """
    from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTOptimizer  # type: ignore[import-not-found]
    from optimum.onnxruntime.configuration import OptimizationConfig  # type: ignore[import-not-found]
    from transformers import AutoTokenizer

    exported = folder.with_name(f"{folder.name}-onnx")
    if not (exported / "model_optimized.onnx").is_file():
        AutoTokenizer.from_pretrained(folder).save_pretrained(exported)
        ORTModelForFeatureExtraction.from_pretrained(folder, export=True).save_pretrained(exported)
        unoptimized = ORTModelForFeatureExtraction.from_pretrained(exported)
        settings = OptimizationConfig(optimization_level=99, optimize_for_gpu=False)
        ORTOptimizer.from_pretrained(unoptimized).optimize(settings, save_dir=exported, one_external_file=True)
    return exported


def main() -> None:
    """Load, then answer until stdin ends."""
    kind, variant, *folders = sys.argv[1:]
    # What the libraries print must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    peers: dict[str, Any] = {"sentence-transformers": SentenceTransformers, "infinity": Infinity}
    peer: Peer = peers[kind](variant, [Path(folder) for folder in folders])
    names = ("torch", "transformers", "sentence-transformers", "infinity-emb", "optimum", "optimum-onnx", "onnxruntime")
    installed = {one.name.lower().replace("_", "-"): one.version for one in importlib.metadata.distributions()}
    print(json.dumps({name: installed[name] for name in names if name in installed}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        started = time.perf_counter()
        vectors = peer.embed(asked["texts"], asked["at_once"])
        seconds = time.perf_counter() - started
        if asked["vectors"]:
            np.savez(asked["vectors"], *vectors)
        print(json.dumps({"seconds": seconds}), file=answers, flush=True)
    # infinity's threads would keep the process alive.
    os._exit(0)


if __name__ == "__main__":
    main()
