"""Spaces: the part of the client for administrators who change encoders."""

from collections.abc import Callable
from typing import Any, cast

import grpc

from duovec.v1 import space_service_pb2 as pb
from duovec.v1.space_service_pb2_grpc import SpaceServiceStub


class Spaces:
    """Every method raises ClientError when its call fails. A space is named by its fingerprint, or 8 digits of it."""

    def __init__(self, channel: grpc.Channel, call: Callable[..., Any]) -> None:
        """Use `Client.spaces`."""
        # The generated stubs carry no annotations.
        self._stub = cast(Callable[[grpc.Channel], Any], SpaceServiceStub)(channel)
        self._call = call

    def list(self) -> pb.ListSpacesResponse:
        """The spaces, oldest first, and the fingerprint that the served encoders make."""
        response: pb.ListSpacesResponse = self._call(self._stub.ListSpaces, pb.ListSpacesRequest())
        return response

    def get(self, space: str) -> pb.Space:
        """One space, with its coverage at this moment."""
        response: pb.GetSpaceResponse = self._call(self._stub.GetSpace, pb.GetSpaceRequest(space=space))
        return response.space

    def build(self, *, code_version: int = 0, text_version: int = 0) -> pb.Space:
        """Make a space of two published versions, 0 for the served ones; it has no vectors yet."""
        request = pb.BuildSpaceRequest(code_version=code_version, text_version=text_version)
        response: pb.BuildSpaceResponse = self._call(self._stub.BuildSpace, request, repeatable=False)
        return response.space

    def reembed(self, space: str, *, max_chunks_per_second: float = 0.0, stop: bool = False) -> pb.Space:
        """Have every chunk embedded in a space in the background, and verified; or stop that."""
        request = pb.ReembedSpaceRequest(space=space, max_chunks_per_second=max_chunks_per_second, stop=stop)
        response: pb.ReembedSpaceResponse = self._call(self._stub.ReembedSpace, request)
        return response.space

    def activate(self, space: str) -> pb.Space:
        """Have a space searched and written to in place of the active one."""
        response: pb.ActivateSpaceResponse = self._call(self._stub.ActivateSpace, pb.ActivateSpaceRequest(space=space))
        return response.space

    def roll_back(self) -> pb.Space:
        """Activate the space that was active before."""
        # Repeated, it would go back and forth.
        response: pb.RollbackSpaceResponse = self._call(
            self._stub.RollbackSpace, pb.RollbackSpaceRequest(), repeatable=False
        )
        return response.space

    def drop(self, space: str) -> None:
        """Delete a space with all its vectors."""
        self._call(self._stub.DropSpace, pb.DropSpaceRequest(space=space), repeatable=False)
