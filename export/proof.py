"""Runs the gate on a version and keeps what it saw: the report in manifest.json, the canary beside it."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from export.build import BuildRequest, spec_digest, stated
from export.disk import replace_text, writing
from export.errors import ExportError
from export.gate.settings import GateSettings
from export.repository import EncoderFolder
from export.serving import Precision, Runtime, Serving
from export.smoke import CANARY
from export.source import Checkpoint, sha256_of, write_tokenizer
from export.spec import EncoderSpec
from export.version import Version, is_proven, seal

if TYPE_CHECKING:
    from export.gate.report import GateReport

OnStep = Callable[[str], None]


def is_proven_by(candidate: Version, settings: GateSettings) -> bool:
    """Whether the gate passed a candidate and measured no less than some settings ask for."""
    if not is_proven(candidate):
        return False
    gate = candidate.manifest["gate"]
    skipped = [length for length in gate["skipped_buckets"] if length <= settings.longest_bucket]
    return bool(gate["retrieval"]["pairs"] >= settings.pairs) and not skipped


def prove_candidate(
    folder: EncoderFolder,
    request: BuildRequest,
    checkpoint: Checkpoint,
    settings: GateSettings | None = None,
    *,
    on_step: OnStep = lambda step: None,
) -> tuple[Version, "GateReport"]:
    """Run the gate on the candidate; the caller holds `folder.building`.

    Returns:
        The candidate with the report in its manifest and its canary beside it, and the report.

    Raises:
        GateFailure: It is out of tolerance; the report is in its manifest all the same, and it cannot be published.
        ExportError: Its manifest is not what the build wrote, the runtime cannot be had here, or the disk refuses.
    """
    from export.gate.gate import GateFailure

    candidate = folder.update_candidate({"gate": None})
    _require_stated(candidate, request, checkpoint)
    files = dict(candidate.manifest["files"])
    engine = {}
    if request.serving.runtime is Runtime.TENSORRT:
        from export.tensorrt_engine import ENGINE_FILE, RECORD_FILE, read_record

        # A build script may have left the engine after the manifest was written.
        engine = {"engine": read_record(candidate.folder).as_manifest()}
        files |= {name: sha256_of(candidate.folder / name) for name in (ENGINE_FILE, RECORD_FILE)}
    try:
        report = prove(candidate, request, checkpoint, settings, on_step=on_step)
    except GateFailure as exc:
        folder.update_candidate({"gate": exc.report.as_dict()})
        raise
    canary = candidate.folder / CANARY
    with writing(canary):
        replace_text(canary, json.dumps(dict(report.canary)) + "\n")
    files[CANARY] = sha256_of(canary)
    graph = [name for name in files if engine and name.startswith("model.onnx")]
    for name in graph:
        del files[name]
    changes = {"files": files, **engine}
    sealed = {**report.as_dict(), "seal": seal({**candidate.manifest, **changes})}
    proven = folder.update_candidate({**changes, "gate": sealed})
    for name in graph:  # the engine holds the weights
        (candidate.folder / name).unlink()
    return proven, report


def _require_stated(candidate: Version, request: BuildRequest, checkpoint: Checkpoint) -> None:
    """Make sure that manifest and tokenizer tell whoever serves the candidate what the gate is about to prove.

    Raises:
        ExportError: They say something else.
    """
    from export.encoder import effective_spec

    expected = stated(request, effective_spec(request.spec, request.options), checkpoint)
    for key, value in json.loads(json.dumps(expected)).items():
        if candidate.manifest.get(key) != value:
            raise ExportError(
                f"{candidate.folder / 'manifest.json'}: {key} is not what the build writes there; build it again"
            )
    # The gate compares token ids of its own texts, which use a small part of a vocabulary.
    path = candidate.folder / "tokenizer.json"
    with tempfile.TemporaryDirectory(prefix="duovec-tokenizer-") as name:
        write_tokenizer(checkpoint, Path(name) / path.name)
        if not path.is_file() or path.read_bytes() != (Path(name) / path.name).read_bytes():
            raise ExportError(f"{path} is not the tokenizer of {checkpoint.folder}; build it again")


def prove(
    version: Version,
    request: BuildRequest,
    checkpoint: Checkpoint,
    settings: GateSettings | None = None,
    *,
    on_step: OnStep = lambda step: None,
) -> "GateReport":
    """Run the gate on a version folder, and write nothing.

    Raises:
        GateFailure: It is out of tolerance.
        ExportError: The runtime cannot be had here.
    """
    on_step("load the libraries")
    from export.gate.gate import run_gate

    return run_gate(
        request.spec,
        checkpoint,
        version.folder,
        request.serving,
        options=request.options,
        settings=settings,
        on_step=on_step,
    )


def request_of(version: Version, spec: EncoderSpec) -> BuildRequest:
    """What a version was built from, read back from its manifest.

    Args:
        version: A version or candidate.
        spec: The spec that it was built from, which the manifest holds the digest of.

    Raises:
        ExportError: The spec is another one, or the manifest does not say.
    """
    manifest = version.manifest
    try:
        if manifest["inputs"]["spec"] != spec_digest(spec):
            raise ExportError(
                f"{version.folder} was built from another spec of {spec.name}; give it with --spec, or build again"
            )
        serving = Serving(
            Runtime(manifest["runtime"]), Precision(manifest["precision"]), int(manifest["serving"]["num_threads"])
        )
        return BuildRequest(spec, serving, **manifest["options"])
    except (KeyError, TypeError, ValueError) as exc:
        raise ExportError(f"{version.folder} does not say how it was built ({exc!r}); build it again") from exc


def require_same_source(version: Version, checkpoint: Checkpoint) -> None:
    """Make sure that a checkpoint is the one that a version was built from.

    Raises:
        ExportError: It is another one.
    """
    if json.loads(json.dumps(dict(checkpoint.origin))) != version.manifest.get("source"):
        raise ExportError(
            f"{version.folder} was built from other weights than {checkpoint.folder}; give those with --checkpoint"
        )
