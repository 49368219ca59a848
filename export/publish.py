"""From candidate to served version, and from one served version to another, without a failed request in between.

Publishing: the candidate gets its number by a rename; Triton is told to load it beside the served version, by a
configuration that it is given rather than reads; exactly that version must be ready, and must give the canary's
vector; then config.pbtxt is replaced, and only that publishes it. Until then the file on the disk names the old
version: a crash, or a Triton that restarts, finds it as it was. On a failure Triton is told the old one again.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.deployment import Deployment, deployment_of
from export.errors import ExportError
from export.repository import NEWEST_PARAMETER, EncoderFolder
from export.smoke import SmokeFailure, read_canary, run_in_fresh_process
from export.triton_config import build_config, format_config
from export.triton_control import TritonControl, TritonRefused
from export.tuning import Tuning, tuning_in
from export.version import Version, damaged_files, is_proven
from export.warmup import write_warmup_data

OnStep = Callable[[str], None]


@dataclass(frozen=True)
class Served:
    """A version that is served from now on.

    Attributes:
        version: The version.
        loaded: All versions that Triton keeps loaded.
        smoke: What the canary ran through: `triton`, `host` (a process of its own), or `none`.
        cosine: The canary's cosine to the vector that the gate saw; None where it did not run.
    """

    version: Version
    loaded: tuple[int, ...]
    smoke: str
    cosine: float | None


def publish_candidate(
    folder: EncoderFolder, triton: TritonControl | None, *, on_step: OnStep = lambda step: None
) -> Served:
    """Publish the candidate as the next version; the caller holds both locks.

    A candidate that gives another vector than the gate saw is removed. After any other failure it is the candidate
    again, so that a Triton that is away, full or started in the wrong mode does not cost a build.

    Args:
        folder: The encoder's.
        triton: The server that serves this repository; None to publish on the disk only.
        on_step: Told about each stage.

    Raises:
        ExportError: Nothing is published; the old version is served as before.
    """
    on_step("check the candidate")
    candidate = folder.candidate()
    if candidate is None:
        raise ExportError(f"{folder.path} holds no candidate; run: duovec-export build --encoder {folder.encoder}")
    if not is_proven(candidate):
        raise ExportError(f"{candidate.folder} is not proven; run: duovec-export verify --encoder {folder.encoder}")
    _require_whole(candidate, "build it again")
    on_step("give it a number")
    version = folder.promote()
    try:
        return _serve(folder, version, triton, on_step)
    except SmokeFailure:
        folder.remove(version)
        raise
    except BaseException:
        folder.take_back(version)
        raise


def roll_back(
    folder: EncoderFolder,
    triton: TritonControl | None,
    *,
    to: int | None = None,
    on_step: OnStep = lambda step: None,
) -> Served:
    """Serve an older version again; the caller holds `folder.publishing`.

    Args:
        folder: The encoder's.
        triton: The server that serves this repository; None to roll back on the disk only.
        to: Which version; None for the one before the served one. The served one itself is told to Triton again.
        on_step: Told about each stage.

    Raises:
        ExportError: There is no such version or it is damaged, or Triton does not serve it; all is as before.
    """
    state = folder.state()
    if state is None:
        raise ExportError(f"nothing is published in {folder.path}")
    numbers = {version.number: version for version in folder.versions()}
    target = to if to is not None else max((number for number in numbers if number < state.served), default=None)
    if target is None:
        raise ExportError(f"{folder.encoder} has no version older than {state.served}, which is served")
    if target not in numbers:
        known = ", ".join(map(str, numbers))
        raise ExportError(f"{folder.encoder} has no published version {target}; it has {known}")
    on_step(f"check version {target}")
    _require_whole(numbers[target], "choose another version with --to")
    return _serve(folder, numbers[target], triton, on_step)


def unload(folder: EncoderFolder, numbers: Collection[int], triton: TritonControl | None) -> None:
    """Stop keeping some versions loaded, never the served one; the caller holds `folder.publishing`.

    Raises:
        ExportError: Triton does not answer, or the disk refuses; all is as before.
    """
    served, state = folder.served(), folder.state()
    if served is not None and state is not None:
        kept = [number for number in state.loaded if number not in numbers]
        _switch(folder, served, _Plan(folder, served, kept, _tuning(folder)), triton, on_step=lambda step: None)


def configure(
    folder: EncoderFolder,
    tuning: Tuning | None,
    triton: TritonControl | None,
    *,
    on_step: OnStep = lambda step: None,
) -> Served:
    """Run the loaded versions by a machine's settings, and all that follow; the caller holds `folder.publishing`.

    Args:
        folder: The encoder's.
        tuning: The settings; None for each version's own again.
        triton: The server that serves this repository; None to change the disk only.
        on_step: Told about each stage.

    Raises:
        ExportError: Nothing is published, or it runs on a backend that has no such settings, or Triton does not load it
            with them, or it gives another vector; all is as before.
    """
    served, state = folder.served(), folder.state()
    if served is None or state is None:
        raise ExportError(
            f"nothing is published in {folder.path}; run: duovec-export publish --encoder {folder.encoder}"
        )
    runtime = _deployment(served).runtime
    if tuning is not None and runtime.backend != "python":
        raise ExportError(
            f"{folder.encoder} version {served.number} runs on Triton's own {runtime} backend, which has no such "
            "settings; they are for versions with --runtime openvino or onnxruntime"
        )
    _require_whole(served, "publish it again")
    return _switch(folder, served, _Plan(folder, served, state.loaded, tuning), triton, on_step)


class _Plan:
    """The configuration that serves a version, with some others kept loaded."""

    def __init__(self, folder: EncoderFolder, version: Version, kept: Sequence[int], tuning: Tuning | None) -> None:
        state = folder.state()
        self.deployment = _deployment(version)
        self.loaded = tuple(sorted({version.number, *kept}))
        self.config = build_config(
            self.deployment, served_version=version.number, loaded_versions=self.loaded, tuning=tuning
        )
        newest = max(version.number, state.newest if state else 0)
        self.config.parameters[NEWEST_PARAMETER].string_value = str(newest)


def _serve(folder: EncoderFolder, version: Version, triton: TritonControl | None, on_step: OnStep) -> Served:
    kept, tuning = _kept(folder, version, triton), _tuning(folder)
    try:
        return _switch(folder, version, _Plan(folder, version, kept, tuning), triton, on_step)
    except TritonRefused:
        if not kept:
            raise
        # What was to stay loaded may be what does not load: it must not stand in the way of its successor.
        on_step(f"load it without version {', '.join(map(str, kept))}")
        return _switch(folder, version, _Plan(folder, version, (), tuning), triton, on_step)


def _switch(
    folder: EncoderFolder, version: Version, plan: _Plan, triton: TritonControl | None, on_step: OnStep
) -> Served:
    state = folder.state()
    before = folder.config() if state else None
    text = format_config(plan.config)
    on_step("write the warm-up data")
    write_warmup_data(folder.path, plan.deployment)
    try:
        if triton is None:
            on_step("run the canary in a process of its own")
            smoke, cosine = _smoke_here(version, plan.deployment)
        else:
            on_step("load it into Triton")
            triton.load(folder.encoder, plan.config)
            on_step("run the canary through Triton")
            smoke, cosine = "triton", _smoke_through(triton, folder.encoder, version, plan.loaded)
        on_step("replace config.pbtxt")
        folder.commit(text)
    except BaseException as exc:
        if triton is not None:
            on_step("tell Triton the old configuration")
            _restore(triton, folder.encoder, before, exc)
        raise
    on_step("done")
    return Served(version, plan.loaded, smoke, cosine)


def _kept(folder: EncoderFolder, version: Version, triton: TritonControl | None) -> tuple[int, ...]:
    """The versions to keep loaded beside a new one: all that are loaded, since a gateway may be pinned to any of them.

    Only `unload` lets one go, and a change of the backend, which no configuration can serve both sides of.
    """
    state = folder.state()
    if state is None:
        return ()
    versions = {one.number: one for one in folder.versions()}
    return tuple(
        number
        for number in sorted({state.served, *state.loaded} - {version.number})
        if number in versions and _can_stay(folder, versions[number], version, triton)
    )


def _can_stay(folder: EncoderFolder, kept: Version, version: Version, triton: TritonControl | None) -> bool:
    try:
        if not _deployment(version).can_follow(_deployment(kept)) or damaged_files(kept):
            return False
    except ExportError:
        return False  # of an older exporter, or damaged: it cannot be loaded again
    return triton is None or triton.ready(folder.encoder, kept.number)


def _tuning(folder: EncoderFolder) -> Tuning | None:
    return tuning_in(folder.config()) if folder.state() else None


def _deployment(version: Version) -> Deployment:
    return deployment_of(version.manifest, version.folder / "manifest.json")


def _require_whole(version: Version, remedy: str) -> None:
    if damaged := damaged_files(version):
        raise ExportError(f"missing or changed since it was built: {', '.join(map(str, damaged))}; {remedy}")


def _smoke_here(version: Version, deployment: Deployment) -> tuple[str, float | None]:
    vector_D = run_in_fresh_process(version, deployment.num_threads)
    if vector_D is None:
        return "none", None
    return "host", read_canary(version).check(vector_D, str(version.folder))


def _smoke_through(triton: TritonControl, encoder: str, version: Version, loaded: Sequence[int]) -> float:
    for number in loaded:
        # Triton passes over a version whose folder it does not see, and calls that a success.
        if not triton.ready(encoder, number):
            raise ExportError(
                f"Triton at {triton.url} has loaded {encoder}, and its version {number} is not ready: "
                "does it serve this repository?"
            )
    canary = read_canary(version)
    vector_D = triton.infer(encoder, version.number, canary.input_ids, canary.task_id)
    return canary.check(vector_D, f"Triton at {triton.url}: {encoder} version {version.number}")


def _restore(triton: TritonControl, encoder: str, before: ModelConfig | None, exc: BaseException) -> None:
    """Tell Triton what it served before; when that fails too, say so in the error that led here."""
    try:
        if before is None:
            triton.unload(encoder)
        else:
            triton.load(encoder, before)
    except ExportError as failure:
        if not isinstance(exc, ExportError):
            raise
        raise type(exc)(
            f"{exc}; and it was not told the old configuration, which it reads when it starts: {failure}"
        ) from exc
