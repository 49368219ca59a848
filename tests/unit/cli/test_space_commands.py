"""What the commands of `duovec space` ask for and say, and what `reembed` waits for."""

import json
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from duovec.v1 import space_service_pb2 as pb
from duovec.v1.space_service_pb2_grpc import SpaceServiceServicer, add_SpaceServiceServicer_to_server
from gateway.cli import space as space_module
from gateway.cli.space import space

runner = CliRunner()
NAME = "4c1f09aa" * 8


class Spaces(SpaceServiceServicer):
    """Tells of a space what a test says, one answer after the other, and keeps what changes it was asked for."""

    answers: list[pb.Space]

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def ListSpaces(self, request: pb.ListSpacesRequest, context: Any) -> pb.ListSpacesResponse:  # noqa: N802
        return pb.ListSpacesResponse(spaces=self.answers, served_space="9" * 64)

    def BuildSpace(self, request: pb.BuildSpaceRequest, context: Any) -> pb.BuildSpaceResponse:  # noqa: N802
        self.asked.append(request)
        return pb.BuildSpaceResponse(space=self.answers.pop(0))

    def ActivateSpace(self, request: pb.ActivateSpaceRequest, context: Any) -> pb.ActivateSpaceResponse:  # noqa: N802
        self.asked.append(request)
        return pb.ActivateSpaceResponse(space=self.answers.pop(0))

    def RollbackSpace(self, request: pb.RollbackSpaceRequest, context: Any) -> pb.RollbackSpaceResponse:  # noqa: N802
        self.asked.append(request)
        return pb.RollbackSpaceResponse(space=self.answers.pop(0))

    def DropSpace(self, request: pb.DropSpaceRequest, context: Any) -> pb.DropSpaceResponse:  # noqa: N802
        self.asked.append(request)
        return pb.DropSpaceResponse()

    def ReembedSpace(self, request: pb.ReembedSpaceRequest, context: Any) -> pb.ReembedSpaceResponse:  # noqa: N802
        return pb.ReembedSpaceResponse(space=self.answers.pop(0))

    def GetSpace(self, request: pb.GetSpaceRequest, context: Any) -> pb.GetSpaceResponse:  # noqa: N802
        if not self.answers:
            context.abort(grpc.StatusCode.INTERNAL, "asked once too often")
        return pb.GetSpaceResponse(space=self.answers.pop(0))


@pytest.fixture(autouse=True)
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spaces]:
    monkeypatch.setattr(space_module, "_POLL_S", 0.0)
    service, server = Spaces(), grpc.server(futures.ThreadPoolExecutor(2))
    add_SpaceServiceServicer_to_server(service, server)
    monkeypatch.setenv("DUOVEC_ENDPOINT", f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    server.start()
    yield service
    server.stop(None).wait()


def row(state: pb.SpaceState, pending: int, *, filling: bool = True) -> pb.Space:
    return pb.Space(fingerprint=NAME, state=state, chunk_count=9, pending_chunk_count=pending, reembedding=filling)


def test_a_space_that_was_active_is_waited_for_until_it_is_complete(service: Spaces) -> None:
    """It is not verified again: who waits for that waits for ever."""
    service.answers = [row(pb.SPACE_STATE_STANDBY, 3), row(pb.SPACE_STATE_STANDBY, 1), row(pb.SPACE_STATE_STANDBY, 0)]
    result = runner.invoke(space, ["reembed", NAME[:8]])
    assert result.exit_code == 0, result.output
    assert "every chunk has its vector" in result.stdout


def test_a_fill_that_somebody_else_stops_says_so(service: Spaces) -> None:
    service.answers = [row(pb.SPACE_STATE_BUILDING, 3), row(pb.SPACE_STATE_BUILDING, 2, filling=False)]
    result = runner.invoke(space, ["reembed", NAME[:8]])
    assert result.exit_code == 0, result.output
    assert "stopped, 2 of 9 chunks have no vector yet" in result.stdout


def test_a_new_space_is_waited_for_until_it_is_verified(service: Spaces) -> None:
    verified = row(pb.SPACE_STATE_BUILDING, 0)
    verified.verification.CopyFrom(pb.SpaceVerification(passed=False, faults=["MRR@10 is less"]))
    service.answers = [row(pb.SPACE_STATE_BUILDING, 3), row(pb.SPACE_STATE_BUILDING, 0), verified]
    result = runner.invoke(space, ["reembed", NAME[:8]])
    assert result.exit_code == 1
    assert "MRR@10 is less" in result.output


def test_what_was_not_compared_is_said_and_is_no_failure(service: Spaces) -> None:
    """Who activates the space must know what nobody looked at."""
    notice = "retrieval was not compared: 3 of 200"
    verified = row(pb.SPACE_STATE_BUILDING, 0)
    verified.verification.CopyFrom(pb.SpaceVerification(passed=True, notices=[notice]))
    service.answers = [row(pb.SPACE_STATE_BUILDING, 0), verified]
    result = runner.invoke(space, ["reembed", NAME[:8]])
    assert result.exit_code == 0, result.output
    assert f"note: {notice}" in result.stderr
    assert "next: duovec space activate" in result.stdout
    service.answers = [verified]
    assert f"{NAME[:12]}: {notice}" in runner.invoke(space, ["list"]).stdout


def test_spaces_are_listed_and_what_the_served_encoders_make(service: Spaces) -> None:
    service.answers = [row(pb.SPACE_STATE_ACTIVE, 0, filling=False), row(pb.SPACE_STATE_BUILDING, 3)]
    service.answers[1].error = "Triton is away"
    result = runner.invoke(space, ["list"])
    assert result.exit_code == 0, result.output
    for words in ("ACTIVE", "BUILDING", "9 of 9", "6 of 9", f"{NAME[:12]}: Triton is away"):
        assert words in result.stdout
    assert f"another space, {'9' * 12}: `duovec space build`" in result.stdout
    found = json.loads(runner.invoke(space, ["list", "--json"]).stdout)
    assert [one["state"] for one in found["spaces"]] == ["ACTIVE", "BUILDING"]


@pytest.mark.parametrize(
    ("words", "asked", "said"),
    [
        (["build"], pb.BuildSpaceRequest(), f"built space {NAME}"),
        (["build", "--code-version", "3"], pb.BuildSpaceRequest(code_version=3), "duovec space reembed 4c1f09aa"),
        (["build", "--text-version", "2"], pb.BuildSpaceRequest(text_version=2), f"built space {NAME}"),
        (["activate", NAME[:8]], pb.ActivateSpaceRequest(space=NAME[:8]), f"space {NAME} is the active one"),
        (["rollback"], pb.RollbackSpaceRequest(), f"space {NAME} is the active one again"),
        (["drop", NAME[:8], "--yes"], pb.DropSpaceRequest(space=NAME), f"space {NAME} is gone, with 6 vectors"),
    ],
)
def test_each_change_is_one_command(service: Spaces, words: list[str], asked: Any, said: str) -> None:
    service.answers = [row(pb.SPACE_STATE_BUILDING, 3)]
    result = runner.invoke(space, words)
    assert result.exit_code == 0, result.output
    assert service.asked == [asked]
    assert said in result.stdout


def test_nothing_is_dropped_without_a_yes(service: Spaces) -> None:
    service.answers = [row(pb.SPACE_STATE_STANDBY, 0)]
    result = runner.invoke(space, ["drop", NAME[:8]], input="n\n")
    assert (result.exit_code, service.asked) == (1, [])
    assert f"Delete space {NAME[:12]} with 9 vectors?" in result.stdout
