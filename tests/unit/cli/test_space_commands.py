"""What `duovec space reembed` waits for, and says."""

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
    """Tells of a space what a test says, one answer after the other."""

    answers: list[pb.Space]

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
