"""One encoder from checkpoint to repository: build, export, prove, publish."""

import json
import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from export import repository as repositories
from export.checkpoint import Checkpoint, open_checkpoint, sha256_of
from export.encoder import build_encoder
from export.errors import ExportError
from export.onnx_export import export_onnx
from export.parity import check_parity
from export.python_backend.host import HostError
from export.spec import EncoderSpec
from export.triton_config import Serving, build_config, format_config

_HOST_FILES = ("model.py", "host.py")


def publish_encoder(
    spec: EncoderSpec,
    repository: Path,
    serving: Serving,
    *,
    adapters_path: Path | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> repositories.PublishedVersion:
    """Publish the next version of an encoder; the caller holds the repository's lock.

    Args:
        spec: The encoder.
        repository: Model repository.
        serving: How it will run here.
        adapters_path: Trained adapters; without it, the base behind its untrained head.
        on_step: Told about each stage.

    Raises:
        ExportError: A source file is damaged, parity fails or the disk refuses; nothing is published then.
    """
    on_step("verify the base files")
    checkpoint = open_checkpoint(spec)
    version = repositories.next_version(repository, spec.name)
    with repositories.staging(repository, spec.name) as folder:
        parity = _build_files(spec, checkpoint, folder, serving, adapters_path, on_step)
        files = {name: sha256_of(folder / name) for name in ("model.onnx", "tokenizer.json", *_HOST_FILES)}
        manifest = {
            "encoder": spec.name,
            "version": version,
            "role": spec.role,
            "dimension": spec.dimension,
            "spec": spec_manifest(spec, checkpoint),
            "runtime": serving.runtime,
            "precision": serving.precision,
            "files": files,
            "source": source_manifest(checkpoint, adapters_path),
            "parity": parity,
        }
        repositories.write_manifest(folder, manifest)
        on_step("publish")
        config_text = format_config(build_config(spec, version, serving))
        target = repositories.publish(repository, spec.name, folder, version, config_text)
    written = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
    return repositories.PublishedVersion(spec.name, version, target, written)


def _build_files(
    spec: EncoderSpec,
    checkpoint: Checkpoint,
    folder: Path,
    serving: Serving,
    adapters_path: Path | None,
    on_step: Callable[[str], None],
) -> dict[str, Any]:
    on_step("build the encoder")
    encoder, adapters = build_encoder(spec, checkpoint, adapters_path)
    on_step("export to ONNX")
    export_onnx(encoder, spec, folder / "model.onnx")
    write_tokenizer(checkpoint, folder / "tokenizer.json")
    for name in _HOST_FILES:
        shutil.copyfile(str(resources.files("export.python_backend") / name), folder / name)
    try:
        return check_parity(
            spec, checkpoint, adapters, folder / "model.onnx", folder / "tokenizer.json", serving, on_step
        )
    except HostError as exc:
        raise ExportError(f"{spec.name}: {exc}") from exc


def write_tokenizer(checkpoint: Checkpoint, path: Path) -> None:
    """Publish the tokenizer without its baked-in truncation and padding: the gateway cuts, and says so."""
    tokenizer = Tokenizer.from_file(str(checkpoint.tokenizer_path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(path))


def spec_manifest(spec: EncoderSpec, checkpoint: Checkpoint) -> dict[str, Any]:
    """The part of the spec that whoever tokenizes and serves must follow."""
    config = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8"))
    return {
        "max_tokens": spec.max_tokens,
        "append_eos": spec.append_eos,
        "prompts": {"query": spec.prompts.query, "passage": spec.prompts.passage},
        "tasks": list(spec.tasks),
        "pooling": spec.pooling,
        "normalize": spec.normalize,
        "attention": spec.attention,
        "vocab_size": config["vocab_size"],
        "license": spec.license,
    }


def source_manifest(checkpoint: Checkpoint, adapters_path: Path | None) -> dict[str, Any]:
    """Where the weights came from; trained adapters count as one more source file."""
    source = checkpoint.source
    files = dict(source.files)
    if adapters_path is not None:
        files["adapters.safetensors"] = sha256_of(adapters_path)
    return {"package": source.package, "version": source.version, "files": files}
