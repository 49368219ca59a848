"""Every config.pbtxt that is in git, as the generator writes it: the golden files and those of production.

After a change of the generator, `python tests/contract/golden_configs.py` writes them again; git shows what changed.
"""

from pathlib import Path

from export.deployment import plan_deployment
from export.serving import PRECISIONS, Runtime, Serving
from export.spec import load_builtin
from export.triton_config import build_config, format_config

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
REPOSITORY = ROOT / "model_repository"
PLAIN, WITH_TASKS = "qodo-embed-1-1.5b", "jina-embeddings-v3"
NUM_THREADS = 2
PRODUCTION = {
    "compact-code": Runtime.OPENVINO,
    "compact-text": Runtime.OPENVINO,
    PLAIN: Runtime.ONNXRUNTIME_CUDA,
    WITH_TASKS: Runtime.ONNXRUNTIME_CUDA,
}


def config_text(encoder: str, runtime: Runtime, *, served: int = 1, loaded: tuple[int, ...] = ()) -> str:
    """What the generator writes; the precision is not in it."""
    deployment = plan_deployment(load_builtin(encoder), Serving(runtime, PRECISIONS[runtime][0], NUM_THREADS))
    return format_config(build_config(deployment, served_version=served, loaded_versions=loaded))


def expected_files() -> dict[Path, str]:
    """Content by path."""
    golden = {
        GOLDEN / f"{runtime}-{kind}.pbtxt": config_text(encoder, runtime, served=2, loaded=(1, 2))
        for runtime in Runtime
        for kind, encoder in (("plain", PLAIN), ("tasks", WITH_TASKS))
    }
    production = {
        REPOSITORY / encoder / "config.pbtxt": config_text(encoder, runtime) for encoder, runtime in PRODUCTION.items()
    }
    return {**golden, **production}


if __name__ == "__main__":
    for path, text in expected_files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
