"""From checkpoints to the active space: gate, export, a new space, its vectors, their verification, activation.

Nothing that is searched changes before the last step. What was exported for a space that is not to be is rolled back,
and the space dropped; what was broken off is taken up by the same call, from the record.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from duovec.v1 import space_service_pb2 as pb
from export.errors import ExportError
from export.locks import DEFAULT_WAIT_S
from export.triton_control import TritonControl
from gateway.client.client import Client
from gateway.client.errors import ClientError
from training.errors import TrainingError
from training.publication.candidacy import Candidacy
from training.publication.exporting import export_candidate, plan_export
from training.publication.ledger import Ledger, Publication
from training.publication.reembedding import Unfit, fill_space
from training.publication.request import NotBetter, PublishRequest
from training.publication.undoing import drop_built_space, roll_back_versions
from training.publication.unfinished import Unfinished

OnStep = Callable[[str], None]


class Publisher:
    """Takes the steps that the record lacks.

    Args:
        request: What to publish.
        client: Of the gateway, as an administrator.
        ledger: The record, entered.
        triton: The Triton of the gateway.
        on_step: Told about each stage.
    """

    def __init__(
        self,
        request: PublishRequest,
        client: Client,
        ledger: Ledger,
        triton: TritonControl,
        on_step: OnStep = lambda step: None,
    ) -> None:
        self._request = request
        self._client = client
        self._ledger = ledger
        self._triton = triton
        self._on_step = on_step
        self._candidacy = Candidacy(request, client, on_step)

    def publish(self) -> dict[str, Any]:
        """Take the missing steps, up to a space that is active.

        Returns:
            `space`, `verdict`, `versions` by role, and `lineage`.

        Raises:
            NotBetter: The gate refuses; nothing was published.
            TrainingError: A checkpoint is of another base or another data set than it must be, the space's
                verification found faults (all was taken back), or the database was lost (the same call goes on).
            ExportError: A checkpoint does not fit, or cannot be published; the live space is as before.
            ClientError: The gateway refuses; the same call goes on.
        """
        self._ledger.take_turn(wait_s=self._request.wait_s if self._ledger.has_claim else 0.0)
        active = self._candidacy.active()
        publication = self._ledger.find(self._candidacy.inputs())
        if publication is not None and publication.state == "SUCCEEDED":
            return self._published_before(publication, active)
        self._candidacy.check(active)
        publication = self._ledger.begin(self._candidacy.inputs(), self._candidacy.lineage())
        self._pass_gate(publication, active)
        try:
            self._export(publication, active)
            space = self._build(publication)
            self._fill(publication, space.fingerprint)
        except Unfit as exc:
            self.take_back(publication)
            self._ledger.end(publication, "REFUSED", str(exc))
            raise TrainingError(f"{exc}; it was dropped, and its versions rolled back") from exc
        self._activate(publication)
        self._ledger.end(publication, "SUCCEEDED")
        return self._result(publication)

    def withdraw(self) -> None:
        """Undo what a publication did that did not reach its end, if there is one; raises as `take_back`."""
        self._ledger.take_turn(wait_s=self._request.wait_s)
        self.take_back()

    def take_back(self, publication: Publication | None = None) -> None:
        """Drop the space that was built and not activated, and serve the versions of the active one again.

        What somebody else built or serves is left alone.

        Raises:
            TrainingError, ExportError, ClientError: What could not be done; the same call goes on.
        """
        found = publication or self._ledger.find(self._candidacy.inputs())
        active = self._candidacy.active()
        if found is None or found.steps.get("build_space", {}).get("space") == active.fingerprint:
            return
        drop_built_space(self._client, found, self._on_step)
        roll_back_versions(self._request, active, self._triton, self._on_step)
        if "evaluate" in found.steps:
            self._ledger.record(found, "evaluate", found.steps["evaluate"])  # what came after it is undone
        self._ledger.end(found, "REFUSED", "taken back")

    def _pass_gate(self, publication: Publication, active: pb.Space) -> None:
        """The gate, unless it has spoken on this very opponent."""
        self._ledger.report("evaluate")
        verdict = publication.steps.get("evaluate")
        opponent = self._request.baseline.name if self._request.baseline else active.fingerprint
        known = publication.steps.get("build_space", {}).get("space") == active.fingerprint
        if verdict is None or (verdict["against"] != opponent and not known):
            try:
                verdict = self._candidacy.judge()
            except ExportError as exc:  # no checkpoint of the spec: asked for again, it is none again
                self._ledger.end(publication, "REFUSED", str(exc))
                raise
            if not verdict["better"]:
                # Before the record forgets what was done while another space was live.
                self.take_back(publication)
            self._ledger.record(publication, "evaluate", verdict)
        if not verdict["better"]:
            self._ledger.end(publication, "REFUSED", "; ".join(verdict["faults"]))
            raise NotBetter(verdict)

    def _export(self, publication: Publication, active: pb.Space) -> None:
        if "export" in publication.steps:
            return
        candidates = sorted(self._request.candidates.items())
        live = {role: getattr(active, f"{role}_encoder").version for role, _ in candidates}
        with self._undone_on_failure(publication, active):
            for role, candidate in candidates:  # what refuses the second one is found before the first is exported
                plan_export(self._request.repository, candidate, live[role])
        versions = {}
        for number, (role, candidate) in enumerate(candidates):
            # Where this raises, turn or run may be somebody else's by now, and with them what is served.
            self._ledger.report("export", number, len(candidates))
            with self._undone_on_failure(publication, active):
                versions[role] = export_candidate(
                    self._request.repository,
                    candidate,
                    live[role],
                    self._triton,
                    self._request.export_gate,
                    wait_s=DEFAULT_WAIT_S,
                    on_step=self._on_step,
                )
        self._ledger.record(publication, "export", {"versions": versions})

    @contextmanager
    def _undone_on_failure(self, publication: Publication, active: pb.Space) -> Iterator[None]:
        """Whatever ends it: serve the live versions again, of both encoders, or say in the error that they are not."""
        try:
            yield
        except BaseException as exc:
            try:
                roll_back_versions(self._request, active, self._triton, self._on_step)
            except ExportError as failure:
                told = str(exc) or type(exc).__name__
                raise TrainingError(f"{told}; and what was published was not rolled back: {failure}") from exc
            if isinstance(exc, TrainingError | ExportError):
                self._ledger.end(publication, "REFUSED", str(exc))
            raise

    def _build(self, publication: Publication) -> pb.Space:
        if "build_space" in publication.steps:
            return self._client.spaces.get(publication.steps["build_space"]["space"])
        self._ledger.report("build_space")
        self._on_step("build the space")
        versions = publication.steps["export"]["versions"]
        try:
            space = self._client.spaces.build(
                code_version=versions.get("code", 0), text_version=versions.get("text", 0)
            )
        except ClientError as exc:
            if exc.reason != "SPACE_EXISTS":
                raise
            # Built by a call that died before it was recorded: it is the one of the served encoders.
            space = self._client.spaces.get(self._client.spaces.list().served_space)
        self._ledger.record(publication, "build_space", {"space": space.fingerprint})
        return space

    def _fill(self, publication: Publication, fingerprint: str) -> None:
        if "reembed" in publication.steps:
            return
        self._ledger.report("reembed")
        found = fill_space(
            self._client,
            fingerprint,
            rate=self._request.rate,
            wait_s=self._request.wait_s,
            report=lambda done, count: self._ledger.report("reembed", done, count),
            on_step=self._on_step,
        )
        self._ledger.record(publication, "reembed", found)

    def _activate(self, publication: Publication) -> None:
        fingerprint = publication.steps["build_space"]["space"]
        active = self._candidacy.active().fingerprint
        against = publication.steps["evaluate"]["against"]
        if active != fingerprint:
            if self._request.baseline is None and active != against:
                raise TrainingError(
                    f"space {active[:12]} was activated meanwhile, the gate compared with {against[:12]}; run the "
                    "command again, it compares anew"
                )
            self._ledger.report("activate")
            self._on_step("activate the space")
            self._client.spaces.activate(fingerprint)
        self._ledger.record(publication, "activate", {"space": fingerprint})

    def _published_before(self, publication: Publication, active: pb.Space) -> dict[str, Any]:
        fingerprint = publication.steps["build_space"]["space"]
        if active.fingerprint != fingerprint:
            raise TrainingError(
                f"this was published as space {fingerprint[:12]}, and {active.fingerprint[:12]} is active now; to have "
                f"it back: duovec space activate {fingerprint[:12]}"
            )
        return self._result(publication)

    def _result(self, publication: Publication) -> dict[str, Any]:
        return {
            "published": True,
            "space": publication.steps["build_space"]["space"],
            "versions": publication.steps["export"]["versions"],
            "verdict": publication.steps["evaluate"],
            "lineage": self._candidacy.lineage(),
        }


def connect_triton(stack: ExitStack, url: str, timeout_s: float) -> TritonControl:
    """The Triton at an address, which must answer now.

    Raises:
        Unfinished: None answers.
    """
    triton = stack.enter_context(TritonControl(url, load_timeout_s=timeout_s))
    try:
        triton.require_live()
    except ExportError as exc:
        raise Unfinished(f"{exc}; the same command goes on where it was") from exc
    return triton
