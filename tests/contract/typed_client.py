"""A user's program, for the type checker: what the client's methods take and give."""

from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

from duovec.v1.codebase_service_pb2 import Codebase
from duovec.v1.index_service_pb2 import IndexedChunk
from duovec.v1.principal_service_pb2 import Principal
from duovec.v1.search_service_pb2 import SearchResponse
from gateway.client import AsyncClient, Client, ClientError, IndexReport, index_tree

Vectors = NDArray[np.float32]


def blocking(client: Client) -> None:
    """Methods give what they are about."""
    with client as same:
        assert_type(same, Client)
    assert_type(client.embed(["a"], "query"), Vectors)
    assert_type(client.embed(np.array(["a"]), "passage", precision="float16"), Vectors)
    assert_type(client.search("mine", "words", limit=3), SearchResponse)
    assert_type(client.list_codebases(), Generator[Codebase])
    assert_type(client.access.get_principal(), Principal)
    assert_type(index_tree(client, Path("code"), "mine"), IndexReport)
    for number, vector in client.stream_embed(["a"], "query"):
        assert_type(number, int)
        assert_type(vector, Vectors | ClientError)
    for chunk, outcome in client.index_chunks("mine", []):
        if isinstance(outcome, ClientError):
            print(chunk.path, outcome.reason)
        else:
            assert_type(outcome, IndexedChunk)


async def suspending(client: AsyncClient) -> None:
    """The same methods are awaited."""
    async with client as same:
        assert_type(same, AsyncClient)
    assert_type(await client.embed(["a"], "query"), Vectors)
    assert_type(await client.search(["mine", "other"], code="f()"), SearchResponse)
    assert_type(client.list_codebases(), AsyncGenerator[Codebase])
    assert_type(await client.access.get_principal(), Principal)
    assert_type(await index_tree(client, Path("code"), "mine"), IndexReport)
    async for codebase in client.list_codebases():
        assert_type(codebase.codebase_id, str)


def wrong(client: Client, other: AsyncClient) -> None:
    """Each of these is an error, or ignoring it would be one."""
    client.embed(["a"], "Query")  # type: ignore[arg-type]
    client.embed(["a"])  # type: ignore[call-arg]
    client.serch("mine")  # type: ignore[attr-defined]
    client.search("mine", limit="3")  # type: ignore[arg-type]
    print(other.embed(["a"], "query").shape)  # type: ignore[attr-defined]
    with other:  # type: ignore[attr-defined]
        pass
