"""Spaces: the part of the client for administrators who change encoders."""

from duovec.v1 import space_service_pb2 as pb
from gateway.client.dual import Mode, Part, dual
from gateway.client.rpc import Rpc

_ACTIVATE_SPACE = Rpc("duovec.v1.SpaceService/ActivateSpace", pb.ActivateSpaceResponse)
_BUILD_SPACE = Rpc("duovec.v1.SpaceService/BuildSpace", pb.BuildSpaceResponse, repeatable=False)
_DROP_SPACE = Rpc("duovec.v1.SpaceService/DropSpace", pb.DropSpaceResponse, repeatable=False)
_GET_SPACE = Rpc("duovec.v1.SpaceService/GetSpace", pb.GetSpaceResponse)
_LIST_SPACES = Rpc("duovec.v1.SpaceService/ListSpaces", pb.ListSpacesResponse)
_REEMBED_SPACE = Rpc("duovec.v1.SpaceService/ReembedSpace", pb.ReembedSpaceResponse)
# Repeated, it would go back and forth.
_ROLLBACK_SPACE = Rpc("duovec.v1.SpaceService/RollbackSpace", pb.RollbackSpaceResponse, repeatable=False)


class Spaces(Part[Mode]):
    """Every method raises ClientError when its call fails. A space is named by its fingerprint, or 8 digits of it."""

    @dual
    async def list(self) -> pb.ListSpacesResponse:
        """The spaces, oldest first, and the fingerprint that the served encoders make."""
        return await self._connection.call(_LIST_SPACES, pb.ListSpacesRequest())

    @dual
    async def get(self, space: str) -> pb.Space:
        """One space, with its coverage at this moment."""
        response = await self._connection.call(_GET_SPACE, pb.GetSpaceRequest(space=space))
        return response.space

    @dual
    async def build(self, *, code_version: int = 0, text_version: int = 0) -> pb.Space:
        """Make a space of two published versions, 0 for the served ones; it has no vectors yet."""
        request = pb.BuildSpaceRequest(code_version=code_version, text_version=text_version)
        response = await self._connection.call(_BUILD_SPACE, request)
        return response.space

    @dual
    async def reembed(self, space: str, *, max_chunks_per_second: float = 0.0, stop: bool = False) -> pb.Space:
        """Have every chunk embedded in a space in the background, and verified; or stop that."""
        request = pb.ReembedSpaceRequest(space=space, max_chunks_per_second=max_chunks_per_second, stop=stop)
        response = await self._connection.call(_REEMBED_SPACE, request)
        return response.space

    @dual
    async def activate(self, space: str) -> pb.Space:
        """Have a space searched and written to in place of the active one."""
        response = await self._connection.call(_ACTIVATE_SPACE, pb.ActivateSpaceRequest(space=space))
        return response.space

    @dual
    async def roll_back(self) -> pb.Space:
        """Activate the space that was active before."""
        response = await self._connection.call(_ROLLBACK_SPACE, pb.RollbackSpaceRequest())
        return response.space

    @dual
    async def drop(self, space: str) -> None:
        """Delete a space with all its vectors."""
        await self._connection.call(_DROP_SPACE, pb.DropSpaceRequest(space=space))
