"""Both clients have the same methods, and there is one for each RPC."""

import asyncio
import importlib
import inspect
import pkgutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf import descriptor_pool

import gateway.client
from duovec.v1 import __file__ as _stubs
from gateway.client.access import Access
from gateway.client.client import AsyncClient, Client
from gateway.client.dual import iterate, run
from gateway.client.rpc import Rpc
from gateway.client.spaces import Spaces
from gateway.client.training import Training


def rpcs() -> list[Rpc[Any]]:
    modules = [
        importlib.import_module(f"gateway.client.{found.name}")
        for found in pkgutil.iter_modules(gateway.client.__path__)
    ]
    return list({value for module in modules for value in vars(module).values() if isinstance(value, Rpc)})


def public(kind: type) -> dict[str, Any]:
    return {
        name: getattr(kind, name) for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))
    }


def test_each_rpc_is_that_of_the_protos() -> None:
    """Its reply would otherwise be read as another message, which protobuf does without a word."""
    pool = descriptor_pool.Default()
    ours = [rpc for rpc in rpcs() if not rpc.name.startswith("grpc.health")]
    for rpc in ours:
        service, _, method = rpc.name.partition("/")
        assert pool.FindServiceByName(service).methods_by_name[method].output_type is rpc.reply.DESCRIPTOR, rpc.name


def test_there_is_a_method_for_each_rpc() -> None:
    stubs = [found.name for found in pkgutil.iter_modules([_stubs.rpartition("/")[0]]) if found.name.endswith("_pb2")]
    services = [
        service
        for name in stubs
        for service in importlib.import_module(f"duovec.v1.{name}").DESCRIPTOR.services_by_name.values()
    ]
    methods = {f"{service.full_name}/{method}" for service in services for method in service.methods_by_name}
    assert {rpc.name for rpc in rpcs()} - {"grpc.health.v1.Health/Check"} == methods


def test_both_clients_have_the_same_methods() -> None:
    """Which block in one, and are awaited in the other."""
    blocking, suspending = public(Client), public(AsyncClient)
    assert blocking.keys() == suspending.keys() >= {"embed", "search", "index_chunks", "close"}
    waiting = {
        name
        for name, method in suspending.items()
        if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)
    }
    assert suspending.keys() - waiting == {"vectors_of"}
    assert not any(inspect.iscoroutinefunction(method) for method in blocking.values())
    for name in waiting:
        assert inspect.signature(blocking[name]) == inspect.signature(suspending[name])
        assert blocking[name].__doc__ == suspending[name].__doc__


@pytest.mark.parametrize("group", [Access, Spaces, Training])
def test_a_group_waits_as_its_client_does(group: type) -> None:
    async_client, client = AsyncClient("127.0.0.1:1", api_key="k"), Client("127.0.0.1:1", api_key="k")
    (of_async,) = (part for part in vars(async_client).values() if isinstance(part, group))
    (of_client,) = (part for part in vars(client).values() if isinstance(part, group))
    for name in public(group):
        method = getattr(of_async, name)
        assert inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method), name
        assert not inspect.iscoroutinefunction(getattr(of_client, name)), name
    client.close()


def test_what_has_to_be_awaited_is_no_business_of_a_blocking_client() -> None:
    """It says so, and leaves nothing open."""
    ended = []

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(0)
        finally:
            ended.append(True)

    with pytest.raises(TypeError, match="something that has to be awaited"):
        run(asyncio.sleep(0))
    with pytest.raises(TypeError, match="something that has to be awaited"):
        list(iterate(items()))  # type: ignore[arg-type]
    assert ended == [True]
