"""A candidate into the model repository, built as the version that it follows was."""

from collections.abc import Callable
from pathlib import Path

from export.build import BuildRequest, answers
from export.gate.settings import GateSettings
from export.pipeline import publish_checkpoint
from export.publish import roll_back
from export.repository import EncoderFolder
from export.serving import Precision, Runtime, Serving
from export.source import open_checkpoint
from export.triton_control import TritonControl
from export.version import Version
from training.errors import TrainingError
from training.publication.measure import Candidate


def served_version(repository: Path, encoder: str) -> Version:
    """The served version of an encoder.

    Raises:
        TrainingError: There is none.
        ExportError: It cannot be read.
    """
    version = EncoderFolder(repository, encoder).served()
    if version is None:
        raise TrainingError(f"{repository} serves no version of {encoder}: is it the repository of the gateway?")
    return version


def export_candidate(
    repository: Path,
    candidate: Candidate,
    live: int,
    triton: TritonControl,
    gate: GateSettings,
    *,
    wait_s: float,
    on_step: Callable[[str], None],
) -> int:
    """Publish a candidate beside the live version, in its runtime and precision.

    What is served already is left alone, and what was published and taken back is served again.

    Args:
        repository: The model repository.
        candidate: What to publish.
        live: The version that the active space is embedded with; it stays loaded.
        triton: The server.
        gate: How much the export's gate measures.
        wait_s: How long to wait for another exporter, seconds.
        on_step: Told about each stage.

    Returns:
        The version that is served now.

    Raises:
        TrainingError: Another version than the live one is served: a change of the space is under way.
        ExportError: Nothing was published.
    """
    folder = EncoderFolder(repository, candidate.spec.name)
    with folder.building(wait_s=wait_s):
        served = served_version(repository, candidate.spec.name)
        if is_candidate(served, candidate):
            return served.number
        if served.number != live:
            raise TrainingError(
                f"{candidate.spec.name} version {served.number} is served and version {live} is the live space's: "
                "somebody is changing it already; activate that one, or run: "
                f"duovec-export rollback --encoder {candidate.spec.name} --to {live}"
            )
        folder.clear_leftovers()
        if before := [version for version in folder.versions() if is_candidate(version, candidate)]:
            on_step(f"serve version {before[-1].number} again")
            with folder.publishing(wait_s=wait_s):
                return roll_back(folder, triton, to=before[-1].number).version.number
        request = _request_like(served, candidate)
        checkpoint = open_checkpoint(candidate.spec, candidate.folder)
        result = publish_checkpoint(folder, request, checkpoint, gate, triton, wait_s=wait_s, on_step=on_step)
    return result.version.number


def is_candidate(version: Version, candidate: Candidate) -> bool:
    """Whether a published version was built from the candidate's checkpoint, and is whole.

    Raises:
        TrainingError: The version does not say how it was built.
        ExportError: The checkpoint cannot be read.
    """
    checkpoint = open_checkpoint(candidate.spec, candidate.folder)
    return answers(version, _request_like(version, candidate), checkpoint, any_threads=True)


def _request_like(version: Version, candidate: Candidate) -> BuildRequest:
    """A request for the candidate with the runtime, precision and options of a version."""
    manifest = version.manifest
    try:
        threads = int(manifest["serving"]["num_threads"])
        serving = Serving(Runtime(manifest["runtime"]), Precision(manifest["precision"]), threads)
        return BuildRequest(candidate.spec, serving, **manifest["options"])
    except (KeyError, TypeError, ValueError) as exc:
        raise TrainingError(
            f"{version.folder} does not say how it was built ({exc!r}); publish it again with duovec-export"
        ) from exc
