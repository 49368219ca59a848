"""Candidates beside what is live, before anything changes: may they be compared, are they better, what would follow?"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from duovec.v1 import space_service_pb2 as pb
from export.errors import ExportError
from gateway.client.client import Client
from training.code_version import code_version
from training.dataset import data_digest
from training.errors import TrainingError
from training.publication.exporting import plan_export, served_version
from training.publication.gate import judge
from training.publication.ledger import STEPS
from training.publication.lineage import checkpoint_facts, require_held_out, require_same_base
from training.publication.measure import LiveSpace, measure
from training.publication.request import NotBetter, PublishRequest

OnStep = Callable[[str], None]


class Candidacy:
    """What is asked of a request's candidates; nothing of it changes anything.

    Args:
        request: What to publish.
        client: Of the gateway, as an administrator.
        on_step: Told about each stage.

    Raises:
        TrainingError, ExportError: A checkpoint or the data set cannot be read.
    """

    def __init__(self, request: PublishRequest, client: Client, on_step: OnStep = lambda step: None) -> None:
        self._request = request
        self._client = client
        self._on_step = on_step
        self._facts = {role: checkpoint_facts(one) for role, one in request.candidates.items()}
        self._data_sha256 = data_digest(request.data)

    def look(self) -> dict[str, Any]:
        """Measure, decide, and say what would be done.

        Raises:
            NotBetter: The gate refuses.
            TrainingError: A checkpoint is of another base or another data set than it must be.
            ExportError: A checkpoint does not fit.
            ClientError: The gateway refuses.
        """
        # Against a checkpoint no gateway is needed, and the repository may serve other encoders, or none.
        active = None if self._request.baseline else self.active()
        self.check(active)
        verdict = self.judge()
        if not verdict["better"]:
            raise NotBetter(verdict)
        plan = None if active is None else self._plan(active)
        return {"published": False, "verdict": verdict, "plan": plan, "lineage": self.lineage()}

    def active(self) -> pb.Space:
        """The space that is searched now.

        Raises:
            TrainingError: There is none.
            ClientError: The gateway refuses.
        """
        for one in self._client.spaces.list().spaces:
            if one.state == pb.SPACE_STATE_ACTIVE:
                return one
        raise TrainingError("the gateway has no active space")

    def check(self, active: pb.Space | None) -> None:
        """Refuse what can be known before anything is measured; of the space where there is one.

        Raises:
            TrainingError, ExportError: As `look`.
        """
        for role, candidate in self._request.candidates.items():
            if not self._request.unseen_data:
                require_held_out(self._facts[role], self._data_sha256, self._request.data)
            if active is None:
                continue
            live = getattr(active, f"{role}_encoder").name
            if candidate.spec.name != live:
                raise TrainingError(
                    f"the {role} encoder of the live space is {live}, the checkpoint is one of {candidate.spec.name}; "
                    "train the encoder of the space"
                )
            require_same_base(self._facts[role], served_version(self._request.repository, live))

    def judge(self) -> dict[str, Any]:
        """The gate's verdict on what is measured now.

        Raises:
            TrainingError, ExportError, ClientError: As `measure`.
        """
        request = self._request
        measured = measure(
            request.candidates,
            request.baseline or LiveSpace(self._client),
            request.data,
            limit=request.limit,
            seed=request.seed,
            bases=request.bases,
            on_step=self._on_step,
        )
        return judge(measured, request.limits).as_dict()

    def inputs(self) -> dict[str, Any]:
        """What decides the publication: asked for with the same, it is the same one."""
        request = self._request
        return {
            "checkpoints": self._facts,
            "data_sha256": self._data_sha256,
            "limits": asdict(request.limits),
            "questions": [request.limit, request.seed],
            "baseline": request.baseline.name if request.baseline else None,
        }

    def lineage(self) -> dict[str, Any]:
        """Where the candidates come from."""
        return {"checkpoints": self._facts, "data_sha256": self._data_sha256, "code": code_version()}

    def _plan(self, active: pb.Space) -> dict[str, Any]:
        """What a publication would do, or why it would refuse: who asks may only want the comparison."""
        try:
            exports = {
                role: asdict(plan_export(self._request.repository, one, getattr(active, f"{role}_encoder").version))
                for role, one in sorted(self._request.candidates.items())
            }
        except (TrainingError, ExportError) as exc:
            return {"refused": str(exc)}
        return {
            "exports": exports,
            "live_space": active.fingerprint,
            "chunks": active.chunk_count,
            "steps": list(STEPS),
        }
