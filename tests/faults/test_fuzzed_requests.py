"""Requests that hypothesis makes, for every RPC that there is: a clear refusal or an answer, and the server lives.

They are made from the descriptors, so that an RPC which is new is among them.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import hypothesis
import pytest
from chunk_streams import index_chunks
from fault_caller import API_KEY
from fault_site import Backends
from fuzz_caller import Fuzzer, complaints
from fuzz_messages import Values, messages, methods, mutations, page_tokens
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from soak_run import SoakRun

from duovec.v1 import chunk_pb2, index_service_pb2
from gateway.client.client import Client
from gateway.local.process import GatewayServer

# What takes away comes last, so that the others find what they are asked for.
_LAST = ("DeleteCodebase", "DeletePrincipal")
METHODS = sorted(
    methods(),
    key=lambda method: (method.name in _LAST, method.name.startswith(("Delete", "Revoke", "Rotate", "Drop"))),
)
RECIPE = 'encoder = "compact-code"\nepochs = 1\n'
CODE = ("def add(a, b):\n    return a + b\n", "class Stack:\n    pass\n", "open a file", "🙂 日本語", "x")


@dataclass
class FuzzSite:
    """A gateway that nobody else needs, and two who call it."""

    gateway: GatewayServer
    log: Path
    values: dict[str, Any]
    fuzzers: dict[str, Fuzzer]


@pytest.fixture(scope="module")
async def fuzz_site(shared_backends: Backends) -> AsyncIterator[FuzzSite]:
    await shared_backends.mend()
    async with shared_backends.database() as url:
        gateway = shared_backends.gateway(url, "fuzzed")
        await gateway.start()
        with Client(gateway.url, api_key=API_KEY) as admin, grpc.insecure_channel(gateway.url) as channel:
            key, values = await asyncio.to_thread(prepare, admin, gateway.url)
            fuzzers = {"admin": Fuzzer(channel, API_KEY), "alice": Fuzzer(channel, key)}
            yield FuzzSite(gateway, shared_backends.log_path("fuzzed"), values, fuzzers)
        await gateway.stop()


def prepare(admin: Client, endpoint: str) -> tuple[str, dict[str, Any]]:
    """Something of everything; gives the ordinary principal's key, and what requests could mean by their fields."""
    for principal in ("alice", "spare-1", "spare-2"):
        admin.access.create_principal(principal)
    key = admin.access.create_api_key("alice").key
    spare_keys = [admin.access.create_api_key("spare-1").api_key.key_id for _ in range(3)]
    for codebase in ("shared", "hidden"):
        admin.create_codebase(codebase)
        assert all(reply.HasField("indexed") for reply in index_chunks(admin, chunks(codebase)))
    admin.access.set_grant("shared", "alice", "owner")
    admin.access.set_grant("shared", "spare-1", "read")
    with Client(endpoint, api_key=key) as alice:
        alice.create_codebase("of-alice")
        list(index_chunks(alice, chunks("of-alice")))
        found = [alice.search("shared", text) for text in CODE[:3]]
    space = found[0].space
    ids = [hit.chunk_id for response in found for hit in response.hits][:6]
    return key, {
        "codebase_id": ("shared", "hidden", "of-alice", "nowhere", "new-1", "new-2"),
        "codebase_ids": ("shared", "hidden", "of-alice"),
        # Not alice and not the administrator: whoever loses the key can fuzz nothing more.
        "principal_id": ("spare-1", "spare-2", "spare-3", ""),
        "key_id": (*spare_keys, "a" * 12),
        "chunk_id": ids,
        "like_chunk_id": ids,
        "search_id": [response.search_id for response in found],
        "space": (space, space[:8], ""),
        "commit_id": ("1c" * 20, "2d" * 32),
        "folder": ("", "src"),
        "neighbor_count": (0, 1, 20),
        "expected_version": (0, 1),
        "recipe": (RECIPE,),
        "device": ("cpu", "auto", ""),
        "texts": CODE,
        "text": CODE,
        "query": CODE,
        "code": CODE,
        "content": CODE,
        "path": ("a.py", "b/c.py", "日/本.py"),
        "path_globs": ("**/*.py", "a*", "b/?.py"),
        "languages": ("python", "text"),
        "language": ("python",),
        "kind": ("function", "method", "class", "text"),
        "kinds": ("function", "class"),
        "file_sha256": (hashlib.sha256(b"a").digest(), hashlib.sha256(b"b").digest()),
        "keep_file_sha256": (hashlib.sha256(b"a").digest(), b""),
        "delete_file_sha256": (hashlib.sha256(b"a").digest(), hashlib.sha256(b"b").digest()),
        "keep_file_chunk_count": (0, 2),
        "update_number": (0, 1),
        "start_line": (1, 2),
        "end_line": (2, 3),
        "ordinal": (0, 1),
        "file_chunk_count": (2, 3),
        "page_size": (0, 1, 2, 100),
        "week_count": (0, 1, 12),
        "inputs": CODE,
        "normalize": (True,),
        "truncation_direction": (0,),
        "prompt_name": ("query", "passage"),
        "dimensions": (2560, 1536, 1024),
        "service": ("", "duovec.v1.SearchService"),
        "max_chunks_per_second": (0.0, 5.0),
        "code_version": (0, 1),
        "text_version": (0, 1),
        # Far in the future, and of durations less than a month.
        "seconds": (4_000_000_000, 3600, 60),
        "nanos": (0,),
    }


def chunks(codebase: str) -> Iterator[index_service_pb2.IndexChunksRequest]:
    for number, content in enumerate(CODE):
        chunk = chunk_pb2.Chunk(
            path=f"{number}.py",
            language="python",
            kind="text",
            start_line=1,
            end_line=2,
            content=content,
            file_sha256=hashlib.sha256(content.encode()).digest(),
            file_chunk_count=1,
        )
        yield index_service_pb2.IndexChunksRequest(codebase_id=codebase, item_id=str(number), chunk=chunk)


@pytest.fixture
def example_count(soak: SoakRun) -> int:
    """Of each method, each caller, and each of random, nearly valid and mutated requests."""
    return 2000 if soak.is_long else 22


def attempts(count: int, derandomize: bool) -> hypothesis.settings:
    return hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=derandomize,
        suppress_health_check=list(HealthCheck),
        # A request changes what the next one finds: what failed fails seldom again when it is made smaller.
        phases=(Phase.generate,),
    )


PAGED = [method for method in METHODS if "page_token" in method.input_type.fields_by_name]


@pytest.mark.soak
@pytest.mark.parametrize("method", PAGED, ids=lambda method: method.name)
def test_a_page_token_that_was_tampered_with_is_refused(
    fuzz_site: FuzzSite, method: MethodDescriptor, example_count: int, soak: SoakRun
) -> None:
    """With the request that it belongs to, and of the right form: nothing but its parts is wrong."""
    fuzzer = fuzz_site.fuzzers["admin"]
    request: Any = method.input_type._concrete_class()
    for field in method.input_type.fields:
        # The first of what could be meant: what is searched, listed or asked.
        if field.name in {"codebase_id", "query"}:
            setattr(request, field.name, fuzz_site.values[field.name][0])
        elif field.name == "codebase_ids":
            request.codebase_ids.append("shared")
    request.page_size = 1
    token = getattr((fuzzer.call(method, [request]) or [None])[0], "next_page_token", "")

    @attempts(4 * example_count, derandomize=not soak.is_long)
    @given(page_tokens([token] if token else []))
    def attempt(tampered: str) -> None:
        request.page_token = tampered
        fuzzer.call(method, [request])

    attempt()
    assert complaints(fuzz_site.log) == ""


@pytest.mark.soak
@pytest.mark.parametrize("who", ["admin", "alice"])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_any_request_is_answered_or_refused(
    fuzz_site: FuzzSite, method: MethodDescriptor, who: str, example_count: int, soak: SoakRun
) -> None:
    fuzzer = fuzz_site.fuzzers[who]

    @attempts(3 * example_count, derandomize=not soak.is_long)
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        fuzzer.call(method, requests_of(data, method, fuzz_site.values))

    attempt()
    assert complaints(fuzz_site.log) == ""


def requests_of(data: st.DataObject, method: MethodDescriptor, values: Values) -> list[Message | bytes]:
    way = data.draw(st.sampled_from(("usual", "usual", "odd", "mutated")))
    count = data.draw(st.integers(0, 4)) if method.client_streaming else 1
    made = [data.draw(messages(method.input_type, values, usual=way != "odd")) for _ in range(count)]
    if way == "mutated":
        return [data.draw(mutations(one.SerializeToString())) for one in made]
    return list(made)


@pytest.mark.soak
def test_the_requests_reached_what_they_were_for(fuzz_site: FuzzSite, soak: SoakRun) -> None:
    """Last: were all of them refused at the door, the tests above would show little. And it serves as before."""
    seen: Counter[tuple[str, str]] = sum((fuzzer.outcomes for fuzzer in fuzz_site.fuzzers.values()), Counter())
    names = {f"{method.containing_service.full_name}/{method.name}" for method in METHODS}
    if {name for name, _ in seen} != names:
        pytest.skip("the tests above were not all run")
    refused = {name for name in names if not seen[name, "OK"]}
    # It is not implemented by gRPC's own servicer, or there is no space but the active one.
    assert {name.rsplit("/")[-1] for name in refused} <= {
        "List",
        "RollbackSpace",
        "BuildSpace",
        "ReembedSpace",
        "DropSpace",
    }
    assert sum(seen.values()) > 2000
    soak.report(
        "fuzzed requests", {"cases": sum(seen.values()), "answered": sum(n for (_, c), n in seen.items() if c == "OK")}
    )
    with Client(fuzz_site.gateway.url, api_key=API_KEY) as admin:
        assert admin.health() == "SERVING"
        assert admin.embed(["x = 1"], "passage").shape == (1, 2560)
