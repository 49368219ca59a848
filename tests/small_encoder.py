"""A real encoder of a few kilobytes, made here: embedding table, mean over the mask, L2; run by the real host."""

import json
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.build import HOST_FILES
from export.deployment import deployment_of
from export.repository import NEWEST_PARAMETER, EncoderFolder
from export.source import sha256_of
from export.triton_config import build_config, format_config
from export.version import MANIFEST_SCHEMA, Version, seal, write_manifest

VOCABULARY, DIMENSION = 64, 8
CANARY_IDS = [2, 7, 11, 3]


def table_of(seed: int | None, dimension: int = DIMENSION) -> NDArray[np.float32]:
    """The embedding table (V, D) of an encoder; every seed gives other vectors, and None gives no numbers at all."""
    if seed is None:
        return np.full((VOCABULARY, dimension), np.nan, dtype=np.float32)
    return np.random.default_rng(seed).standard_normal((VOCABULARY, dimension)).astype(np.float32)


def vector_of(seed: int | None, ids: list[int], dimension: int = DIMENSION) -> NDArray[np.float64]:
    """The vector (D,) of a row by numpy alone."""
    mean_D = table_of(seed, dimension).astype(np.float64)[ids].mean(axis=0)
    unit_D: NDArray[np.float64] = mean_D / np.linalg.norm(mean_D)
    return unit_D


def write_graph(path: Path, seed: int | None, dimension: int = DIMENSION) -> None:
    """The ONNX file."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["hidden"], axis=0),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask_BS1"]),
        helper.make_node("Mul", ["hidden", "mask_BS1"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "one"], ["summed"], keepdims=0),
        helper.make_node("ReduceSum", ["mask_BS1", "one"], ["count"], keepdims=0),
        helper.make_node("Div", ["summed", "count"], ["mean"]),
        helper.make_node("LpNormalization", ["mean"], ["sentence_embedding"], axis=-1, p=2),
    ]
    rows = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"]) for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["b", dimension])
    constants = {"table": table_of(seed, dimension), "last": np.array([-1]), "one": np.array([1])}
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "small", rows, [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def build_small(
    folder: EncoderFolder,
    *,
    seed: int | None,
    canary_seed: int | None = None,
    precision: str = "fp32",
    changes: dict[str, Any] | None = None,
    host: str = "",
    dimension: int = DIMENSION,
    tokenizer: str = "{}",
) -> Version:
    """Make a candidate.

    Args:
        folder: Where.
        seed: Which encoder.
        canary_seed: Which encoder's vector the canary states; the same one's when None.
        precision: What the manifest says.
        changes: Fields of the manifest to set.
        host: Code put at the end of host.py.
        dimension: Numbers of a vector.
        tokenizer: Text of tokenizer.json.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.staging() as staged:
        write_graph(staged / "model.onnx", seed, dimension)
        (staged / "tokenizer.json").write_text(tokenizer)
        for name in HOST_FILES:
            shutil.copyfile(str(resources.files("export.python_backend") / name), staged / name)
        with (staged / "host.py").open("a") as file:
            file.write(host)
        vector = vector_of(seed if canary_seed is None else canary_seed, CANARY_IDS, dimension).tolist()
        canary = {"input_ids": CANARY_IDS, "task_id": None, "vector": vector}
        (staged / "canary.json").write_text(json.dumps(canary))
        manifest: dict[str, Any] = {
            "schema": MANIFEST_SCHEMA,
            "encoder": folder.encoder,
            "version": 0,
            "role": "code",
            "dimension": dimension,
            "runtime": "onnxruntime",
            "precision": precision,
            "serving": {"backend": "python", "num_threads": 1, "max_batch_size": 64, "length_buckets": []},
            "spec": {"max_tokens": 64, "tasks": [], "vocab_size": VOCABULARY},
            "files": {path.name: sha256_of(path) for path in sorted(staged.iterdir())},
            "gate": {"passed": True},
            "created": "2026-11-21T12:00:00+00:00",
        }
        manifest |= changes or {}
        if manifest["gate"]:
            manifest["gate"] = {**manifest["gate"], "seal": seal(manifest)}
        write_manifest(staged, manifest)
        return folder.keep_candidate(staged)


def commit_small(folder: EncoderFolder, *, seed: int) -> Version:
    """Publish the small encoder by the repository's own steps alone: no smoke test, no process."""
    build_small(folder, seed=seed)
    version = folder.promote()
    config = build_config(deployment_of(version.manifest, version.folder), served_version=version.number)
    config.parameters[NEWEST_PARAMETER].string_value = str(version.number)
    folder.commit(format_config(config))
    return version


def entries(folder: EncoderFolder) -> list[str]:
    """What lies in an encoder's folder, locks aside."""
    return sorted(path.name for path in folder.path.iterdir() if path.suffix != ".lock")
