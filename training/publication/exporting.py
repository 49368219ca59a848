"""A candidate into the model repository, built as the version that it follows was."""

from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class ExportPlan:
    """What the export of a candidate comes to.

    Attributes:
        encoder: Name of the encoder.
        live: The version that the active space is embedded with, which stays loaded.
        version: The version that will be served.
        is_built: Whether it was published before, so that it is served again rather than built and proven.
        runtime: Of both versions.
        precision: Of both versions.
    """

    encoder: str
    live: int
    version: int
    is_built: bool
    runtime: str
    precision: str


def plan_export(repository: Path, candidate: Candidate, live: int | None = None) -> ExportPlan:
    """Say what `export_candidate` would do now; changes nothing.

    Args:
        repository: The model repository.
        candidate: What is to be published.
        live: The version that the active space is embedded with; None for the served one.

    Raises:
        TrainingError: Another version than the live one is served: a change of the space is under way. Or none is.
        ExportError: The repository or the checkpoint cannot be read.
    """
    folder = EncoderFolder(repository, candidate.spec.name)
    served = served_version(repository, candidate.spec.name)
    request = _request_like(served, candidate)
    checkpoint = open_checkpoint(candidate.spec, candidate.folder)
    published = folder.versions()
    built = [one.number for one in published if answers(one, request, checkpoint, any_threads=True)]
    live = served.number if live is None else live
    if served.number not in (live, *built):
        raise TrainingError(
            f"{candidate.spec.name} version {served.number} is served and version {live} is the live space's: "
            "somebody is changing it already; activate that one, or run: "
            f"duovec-export rollback --encoder {candidate.spec.name} --to {live}"
        )
    state = folder.state()
    newest = max([one.number for one in published] + ([state.newest] if state else []))
    version = served.number if served.number in built else built[-1] if built else newest + 1
    return ExportPlan(
        candidate.spec.name, live, version, bool(built), request.serving.runtime, request.serving.precision
    )


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
        TrainingError: As `plan_export`.
        ExportError: Nothing was published.
    """
    folder = EncoderFolder(repository, candidate.spec.name)
    with folder.building(wait_s=wait_s):
        plan = plan_export(repository, candidate, live)
        served = served_version(repository, candidate.spec.name)
        if plan.version == served.number:
            return served.number
        folder.clear_leftovers()
        if plan.is_built:
            on_step(f"serve version {plan.version} again")
            with folder.publishing(wait_s=wait_s):
                return roll_back(folder, triton, to=plan.version).version.number
        checkpoint = open_checkpoint(candidate.spec, candidate.folder)
        request = _request_like(served, candidate)
        result = publish_checkpoint(folder, request, checkpoint, gate, triton, wait_s=wait_s, on_step=on_step)
    return result.version.number


def is_candidate(version: Version, candidate: Candidate) -> bool:
    """Whether a published version was built from the candidate's checkpoint, and is whole.

    Raises:
        ExportError: The checkpoint cannot be read.
    """
    checkpoint = open_checkpoint(candidate.spec, candidate.folder)
    try:
        return answers(version, _request_like(version, candidate), checkpoint, any_threads=True)
    except TrainingError:
        return False  # of an exporter that did not say how: none of ours


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
