"""What a publication did that is not to reach its end, undone; what somebody else built or serves is left alone."""

from collections.abc import Callable

from duovec.v1 import space_service_pb2 as pb
from export.publish import roll_back
from export.repository import EncoderFolder
from export.triton_control import TritonControl
from gateway.client.client import Client
from training.publication.exporting import is_candidate
from training.publication.ledger import Publication
from training.publication.request import PublishRequest

OnStep = Callable[[str], None]


def drop_built_space(client: Client, publication: Publication, on_step: OnStep) -> None:
    """Drop the space that a publication built, unless it is or was active.

    Raises:
        ClientError: The gateway refuses, or cannot be reached.
    """
    for one in client.spaces.list().spaces:
        if _was_built_by(publication, one) and one.state in (pb.SPACE_STATE_BUILDING, pb.SPACE_STATE_DROPPING):
            on_step("drop the space that was built")
            client.spaces.drop(one.fingerprint)


def _was_built_by(publication: Publication, space: pb.Space) -> bool:
    """Whether a space is a publication's; one that died before it recorded the space knows it by its versions."""
    if "build_space" in publication.steps:
        return bool(publication.steps["build_space"]["space"] == space.fingerprint)
    versions = publication.steps.get("export", {}).get("versions", {})
    return bool(versions) and all(getattr(space, f"{role}_encoder").version == one for role, one in versions.items())


def roll_back_versions(request: PublishRequest, active: pb.Space, triton: TritonControl, on_step: OnStep) -> None:
    """Serve the versions of the active space again where the candidates' are served.

    Raises:
        ExportError: Triton does not serve an old version, or the repository cannot be read; that encoder is as before.
    """
    for role, candidate in request.candidates.items():
        live = getattr(active, f"{role}_encoder").version
        folder = EncoderFolder(request.repository, candidate.spec.name)
        with folder.publishing():
            served = folder.served()
            if served is not None and live and served.number != live and is_candidate(served, candidate):
                on_step(f"roll {candidate.spec.name} back to version {live}")
                roll_back(folder, triton, to=live)
