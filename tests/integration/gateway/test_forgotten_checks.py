"""What only administrators may do, where the code of an RPC has forgotten to ask who calls: the database asks again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from duovec.v1 import space_service_pb2 as space_pb
from duovec.v1 import status_service_pb2 as status_pb
from duovec.v1.space_service_pb2_grpc import SpaceServiceStub
from duovec.v1.status_service_pb2_grpc import StatusServiceStub
from gateway.client.client import Client
from gateway.client.errors import from_rpc_error
from gateway.local.stack import Stack
from gateway.server import serve
from gateway.settings import Settings
from gateway.store.principals import PrincipalStore

# Every RPC whose store acts as the system, with a request that would do something; {space} is the active one's.
REQUESTS: list[tuple[Any, str, Any]] = [
    (SpaceServiceStub, "ListSpaces", lambda _: space_pb.ListSpacesRequest()),
    (SpaceServiceStub, "GetSpace", lambda space: space_pb.GetSpaceRequest(space=space)),
    (SpaceServiceStub, "BuildSpace", lambda _: space_pb.BuildSpaceRequest()),
    (SpaceServiceStub, "ReembedSpace", lambda space: space_pb.ReembedSpaceRequest(space=space, stop=True)),
    (SpaceServiceStub, "ActivateSpace", lambda space: space_pb.ActivateSpaceRequest(space=space)),
    (SpaceServiceStub, "RollbackSpace", lambda _: space_pb.RollbackSpaceRequest()),
    (SpaceServiceStub, "DropSpace", lambda space: space_pb.DropSpaceRequest(space=space)),
    (StatusServiceStub, "GetStatus", lambda _: status_pb.GetStatusRequest()),
]


@pytest.fixture
async def forgetful(stack: Stack, published_models: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A gateway beside that of the session, whose RPCs do not ask whether their caller is an administrator."""

    async def forget(self: PrincipalStore, *, timeout_s: float) -> None:
        pass

    monkeypatch.setattr(PrincipalStore, "require_admin", forget)
    environment = stack._gateway_environment
    settings = Settings(
        database_url=environment["DUOVEC_DATABASE_URL"],
        triton_url=environment["DUOVEC_TRITON_URL"],
        model_repository=published_models,
        listen="127.0.0.1:0",
        drain_s=1,
    )
    async with serve(settings) as port:
        yield f"127.0.0.1:{port}"


async def test_nobody_else_gets_through(forgetful: str, stack: Stack, client: Client) -> None:
    assert {name for stub, name, _ in REQUESTS if stub is SpaceServiceStub} == {
        method.name for method in space_pb.DESCRIPTOR.services_by_name["SpaceService"].methods
    }
    await asyncio.to_thread(client.access.create_principal, "unasked")
    key = (await asyncio.to_thread(client.access.create_api_key, "unasked")).key
    async with grpc.aio.insecure_channel(forgetful) as channel:

        async def call(stub: Any, name: str, request: Any, api_key: str) -> Any:
            return await getattr(stub(channel), name)(
                request, metadata=(("authorization", f"Bearer {api_key}"),), timeout=30
            )

        spaces = await call(SpaceServiceStub, "ListSpaces", space_pb.ListSpacesRequest(), stack.api_key)
        assert spaces.served_space
        for stub, name, make in REQUESTS:
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await call(stub, name, make(spaces.served_space), key)
            error = from_rpc_error(failure.value, forgetful)
            assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ADMIN_REQUIRED"), name
        assert await call(SpaceServiceStub, "ListSpaces", space_pb.ListSpacesRequest(), stack.api_key) == spaces
    await asyncio.to_thread(client.access.delete_principal, "unasked")
