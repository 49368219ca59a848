"""Every RPC, called by everyone, on what is theirs, another's, and missing: one table of the codes that must come."""

import importlib
import itertools
import pkgutil
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import grpc
import pytest
from chunk_streams import index_chunks
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

import duovec.v1
from duovec.v1 import index_service_pb2
from gateway.client.client import Client
from gateway.client.errors import ClientError, from_rpc_error
from gateway.local.stack import Stack
from gateway.rpc.handlers import is_own
from gateway.services import SERVICES
from gateway.store.api_key import ApiKey

# A row an RPC. A column a caller; its three letters are the codes on what is the caller's own, another's, and what
# does not exist: a codebase, or in PrincipalService a principal or a key. Where none is named, all three are alike.
# O: OK, U: UNAUTHENTICATED, P: PERMISSION_DENIED, N: NOT_FOUND, A: ALREADY_EXISTS.
TABLE = """
                                 nobody stranger outsider reader writer owner admin
CodebaseService.CreateCodebase   UUU    UUU      AAO      AAO    AAO    AAO   AAO
CodebaseService.GetCodebase      UUU    UUU      NNN      ONN    ONN    ONN   OON
CodebaseService.ListCodebases    UUU    UUU      OOO      OOO    OOO    OOO   OOO
CodebaseService.DeleteCodebase   UUU    UUU      NNN      PNN    PNN    ONN   OON
CodebaseService.BeginUpdate      UUU    UUU      NNN      PNN    ONN    ONN   OON
CodebaseService.SetRevision      UUU    UUU      NNN      PNN    ONN    ONN   OON
CodebaseService.MapCodebase      UUU    UUU      NNN      ONN    ONN    ONN   OON
CodebaseService.SetGrant         UUU    UUU      NNN      PNN    PNN    ONN   OON
CodebaseService.ListGrants       UUU    UUU      NNN      PNN    PNN    ONN   OON
CodebaseService.DeleteGrant      UUU    UUU      NNN      PNN    PNN    ONN   OON
IndexService.IndexChunks         UUU    UUU      NNN      PNN    ONN    ONN   OON
IndexService.ListFiles           UUU    UUU      NNN      ONN    ONN    ONN   OON
IndexService.GetChunk            UUU    UUU      NNN      ONN    ONN    ONN   OON
IndexService.DeleteChunks        UUU    UUU      NNN      PNN    ONN    ONN   OON
SearchService.Search             UUU    UUU      NNN      ONN    ONN    ONN   OON
SearchService.RecordFeedback     UUU    UUU      NNN      ONN    ONN    ONN   ONN
QualityService.ListQuality       UUU    UUU      NNN      PNN    PNN    ONN   OON
SpaceService.ListSpaces          UUU    UUU      PPP      PPP    PPP    PPP   OOO
SpaceService.GetSpace            UUU    UUU      PPP      PPP    PPP    PPP   NNN
SpaceService.BuildSpace          UUU    UUU      PPP      PPP    PPP    PPP   AAA
SpaceService.ReembedSpace        UUU    UUU      PPP      PPP    PPP    PPP   NNN
SpaceService.ActivateSpace       UUU    UUU      PPP      PPP    PPP    PPP   NNN
SpaceService.RollbackSpace       UUU    UUU      PPP      PPP    PPP    PPP   NNN
SpaceService.DropSpace           UUU    UUU      PPP      PPP    PPP    PPP   NNN
EmbeddingService.Embed           UUU    UUU      OOO      OOO    OOO    OOO   OOO
EmbeddingService.StreamEmbed     UUU    UUU      OOO      OOO    OOO    OOO   OOO
PrincipalService.CreatePrincipal UUU    UUU      PPP      PPP    PPP    PPP   AAO
PrincipalService.GetPrincipal    UUU    UUU      ONN      ONN    ONN    ONN   OON
PrincipalService.ListPrincipals  UUU    UUU      OOO      OOO    OOO    OOO   OOO
PrincipalService.DeletePrincipal UUU    UUU      PPP      PPP    PPP    PPP   OON
PrincipalService.SetQuota        UUU    UUU      PPP      PPP    PPP    PPP   OON
PrincipalService.CreateApiKey    UUU    UUU      ONN      ONN    ONN    ONN   OON
PrincipalService.ListApiKeys     UUU    UUU      ONN      ONN    ONN    ONN   OON
PrincipalService.RotateApiKey    UUU    UUU      ONN      ONN    ONN    ONN   OON
PrincipalService.RevokeApiKey    UUU    UUU      ONN      ONN    ONN    ONN   OON
TrainingService.StartTrainingRun UUU    UUU      PPP      PPP    PPP    PPP   OOO
TrainingService.GetTrainingRun   UUU    UUU      PPP      PPP    PPP    PPP   NNN
TrainingService.ListTrainingRuns UUU    UUU      PPP      PPP    PPP    PPP   OOO
TrainingService.CancelTrainingRun UUU   UUU      PPP      PPP    PPP    PPP   NNN
TrainingService.CreateTrainingSchedule UUU UUU   PPP      PPP    PPP    PPP   OOO
TrainingService.ListTrainingSchedules UUU UUU    PPP      PPP    PPP    PPP   OOO
TrainingService.DeleteTrainingSchedule UUU UUU   PPP      PPP    PPP    PPP   NNN
AuditService.ListAuditEvents     UUU    UUU      PPP      PPP    PPP    PPP   OOO
StatusService.GetStatus          UUU    UUU      PPP      PPP    PPP    PPP   OOO
Info.Info                        UUU    UUU      OOO      OOO    OOO    OOO   OOO
Embed.Embed                      UUU    UUU      OOO      OOO    OOO    OOO   OOO
Embed.EmbedStream                UUU    UUU      OOO      OOO    OOO    OOO   OOO
"""
CODES = {
    "O": "OK",
    "U": "UNAUTHENTICATED",
    "P": "PERMISSION_DENIED",
    "N": "NOT_FOUND",
    "A": "ALREADY_EXISTS",
}
CALLERS, *ROWS = (line.split() for line in TABLE.strip().splitlines())
EXPECTED = {name: dict(zip(CALLERS, codes, strict=True)) for name, *codes in ROWS}


def methods() -> dict[str, MethodDescriptor]:
    """Every RPC of every proto in the package, and of whatever else is served."""
    found = {}
    services = {name: descriptor_pool.Default().FindServiceByName(name) for name in SERVICES}
    for module in pkgutil.iter_modules(duovec.v1.__path__):
        if module.name.endswith("_service_pb2"):
            ours = importlib.import_module(f"duovec.v1.{module.name}").DESCRIPTOR.services_by_name
            services |= {service.full_name: service for service in ours.values()}
    for service in services.values():
        found |= {f"{service.name}.{method.name}": method for method in service.methods}
    return found


METHODS = methods()


@dataclass(frozen=True)
class Subject:
    """What a call is about: a codebase, a principal, a key, a search that are the caller's own, another's, or missing.

    The chunk is one that the search showed. Only who asks for searches gets them.
    """

    codebase_id: str
    principal_id: str
    key_id: str
    grantee_id: str
    search_id: str = "00000000-0000-0000-0000-000000000000"
    chunk_id: int = 1


CHUNK = {
    "path": "a.py",
    "language": "python",
    "kind": "text",
    "start_line": 1,
    "end_line": 1,
    "content": "x = 1",
    "file_sha256": bytes(32),
    "file_chunk_count": 1,
}
# What makes a good request of each RPC; those that are not here name their codebase, and nothing else.
REQUESTS: dict[str, Callable[[Subject], dict[str, Any]]] = {
    "CodebaseService.ListCodebases": lambda _: {},
    "CodebaseService.SetRevision": lambda to: {
        "codebase_id": to.codebase_id,
        "revision": {"commit_id": "1c" * 20},
    },
    "CodebaseService.SetGrant": lambda to: {
        "grant": {"codebase_id": to.codebase_id, "principal_id": to.grantee_id, "role": "ROLE_READ"}
    },
    "CodebaseService.DeleteGrant": lambda to: {"codebase_id": to.codebase_id, "principal_id": to.grantee_id},
    "IndexService.IndexChunks": lambda to: {"codebase_id": to.codebase_id, "item_id": "1", "chunk": CHUNK},
    "IndexService.GetChunk": lambda to: {"codebase_id": to.codebase_id, "chunk_id": to.chunk_id},
    "IndexService.DeleteChunks": lambda to: {"codebase_id": to.codebase_id, "files": [{"path": "a.py"}]},
    "SearchService.Search": lambda to: {"codebase_ids": [to.codebase_id], "query": "x"},
    "SearchService.RecordFeedback": lambda to: {
        "search_id": to.search_id,
        "items": [{"chunk_id": to.chunk_id, "signal": "FEEDBACK_SIGNAL_USEFUL"}],
    },
    "EmbeddingService.Embed": lambda _: {"texts": ["x"], "input_type": "INPUT_TYPE_QUERY"},
    "EmbeddingService.StreamEmbed": lambda _: {"item_id": "1", "text": "x", "input_type": "INPUT_TYPE_QUERY"},
    "SpaceService.ListSpaces": lambda _: {},
    "SpaceService.BuildSpace": lambda _: {},
    "SpaceService.RollbackSpace": lambda _: {},
    **{
        f"SpaceService.{name}": lambda _: {"space": "0" * 64}
        for name in ("GetSpace", "ReembedSpace", "ActivateSpace", "DropSpace")
    },
    "StatusService.GetStatus": lambda _: {},
    "Info.Info": lambda _: {},
    "Embed.Embed": lambda _: {"inputs": "x"},
    "Embed.EmbedStream": lambda _: {"inputs": "x"},
    "AuditService.ListAuditEvents": lambda _: {},
    "TrainingService.StartTrainingRun": lambda _: {"spec": {"recipe": "encoder = 'none'"}},
    "TrainingService.GetTrainingRun": lambda _: {"run_id": 2**62},
    "TrainingService.ListTrainingRuns": lambda _: {},
    "TrainingService.CancelTrainingRun": lambda _: {"run_id": 2**62},
    "TrainingService.CreateTrainingSchedule": lambda _: {
        "schedule": {"spec": {"recipe": "encoder = 'none'"}, "min_feedback_count": 1}
    },
    "TrainingService.ListTrainingSchedules": lambda _: {},
    "TrainingService.DeleteTrainingSchedule": lambda _: {"schedule_id": 2**62},
    "PrincipalService.ListPrincipals": lambda _: {},
    "PrincipalService.CreatePrincipal": lambda to: {"principal_id": to.principal_id},
    "PrincipalService.GetPrincipal": lambda to: {"principal_id": to.principal_id},
    "PrincipalService.DeletePrincipal": lambda to: {"principal_id": to.principal_id},
    "PrincipalService.SetQuota": lambda to: {"principal_id": to.principal_id, "quota": {"requests_per_s": 1000}},
    "PrincipalService.CreateApiKey": lambda to: {"principal_id": to.principal_id},
    "PrincipalService.ListApiKeys": lambda to: {"principal_id": to.principal_id},
    "PrincipalService.RotateApiKey": lambda to: {"key_id": to.key_id},
    "PrincipalService.RevokeApiKey": lambda to: {"key_id": to.key_id},
}


NEED_CHUNKS = {"IndexService.GetChunk", "SearchService.RecordFeedback"}


def outcome(channel: grpc.Channel, name: str, fields: dict[str, Any], key: str | None) -> tuple[str, str]:
    """The code and the reason that a call ends with."""
    method = METHODS[name]
    request_class, reply_class = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    codec = {"request_serializer": request_class.SerializeToString, "response_deserializer": reply_class.FromString}
    path = f"/{method.containing_service.full_name}/{method.name}"
    options = {"timeout": 30, "metadata": [("authorization", f"Bearer {key}")] if key else []}
    try:
        if method.client_streaming:
            for reply in channel.stream_stream(path, **codec)(iter([request_class(**fields)]), **options):
                assert "error" not in {field.name for field, _ in reply.ListFields()}, reply
        else:
            channel.unary_unary(path, **codec)(request_class(**fields), **options)
    except grpc.RpcError as error:
        failure = from_rpc_error(error, "")
        return failure.code.name, failure.reason
    return "OK", ""


class World:
    """Makes what a call needs, as the administrator."""

    def __init__(self, admin: Client, endpoint: str) -> None:
        self._admin = admin
        self._endpoint = endpoint
        self._numbers = itertools.count()

    def principal(self, *, admin: bool = False) -> tuple[str, str]:
        """A new principal and its key."""
        name = f"someone-{next(self._numbers)}"
        self._admin.access.create_principal(name, admin=admin)
        return name, self._admin.access.create_api_key(name).key

    def codebase(self, grantee_id: str) -> str:
        """A new codebase, which the administrator owns and the grantee may read."""
        name = f"permissions-{next(self._numbers)}"
        self._admin.create_codebase(name)
        self._admin.access.set_grant(name, grantee_id, "read")
        return name

    def search(self, subject: Subject, key: str) -> Subject:
        """The subject with a search of its codebase, by who has the key."""
        chunk = index_service_pb2.IndexChunksRequest(codebase_id=subject.codebase_id, item_id="1", chunk=CHUNK)
        assert all(reply.HasField("indexed") for reply in index_chunks(self._admin, iter([chunk])))
        with Client(self._endpoint, api_key=key) as client:
            response = client.search(subject.codebase_id, "x")
        return replace(subject, search_id=response.search_id, chunk_id=response.hits[0].chunk_id)

    def caller(self, role: str, *, with_searches: bool = False) -> tuple[str | None, list[Subject]]:
        """A caller's key, and what is its own, another's, and missing."""
        principal_id, key = self.principal(admin=role == "admin")
        grantee_id, grantee_key = self.principal()
        other_id, other_key = self.principal()
        own, other = self.codebase(grantee_id), self.codebase(grantee_id)
        if role in {"reader", "writer", "owner"}:
            self._admin.access.set_grant(own, principal_id, {"reader": "read", "writer": "write"}.get(role, "owner"))
        subjects = [
            Subject(own, principal_id, key.split("_")[1], grantee_id),
            Subject(other, other_id, other_key.split("_")[1], grantee_id),
            Subject(f"missing-{next(self._numbers)}", f"missing-{next(self._numbers)}", "0" * 12, grantee_id),
        ]
        if with_searches:
            readers = {"reader", "writer", "owner", "admin"}
            subjects[0] = self.search(subjects[0], key if role in readers else grantee_key)
            subjects[1] = self.search(subjects[1], grantee_key)
        return {"nobody": None, "stranger": ApiKey.generate().text}.get(role, key), subjects


@pytest.fixture(scope="module")
def channel(stack: Stack) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(stack.endpoint) as channel:
        yield channel


@pytest.fixture(scope="module")
def world(stack: Stack) -> Iterator[World]:
    with Client(stack.endpoint, api_key=stack.api_key) as admin:
        yield World(admin, stack.endpoint)
        for codebase in list(admin.list_codebases()):
            if codebase.codebase_id.startswith(("permissions-", "missing-")):
                admin.delete_codebase(codebase.codebase_id)


def test_the_table_has_every_rpc() -> None:
    """Whoever adds an RPC says here who may call it; one of another package would be let through without a key."""
    assert sorted(EXPECTED) == sorted(METHODS)
    assert {f"/{service}/" for service in SERVICES if not is_own(f"/{service}/")} == set()


@pytest.mark.parametrize("role", CALLERS)
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_call_ends_with_the_code_of_the_table(channel: grpc.Channel, world: World, name: str, role: str) -> None:
    """Own, another's, missing; and who has no key learns nothing else, whatever the call."""
    key, subjects = world.caller(role, with_searches=name in NEED_CHUNKS)
    make = REQUESTS.get(name, lambda to: {"codebase_id": to.codebase_id})
    # The own comes last: it may be the caller's own end.
    got = {index: outcome(channel, name, make(subjects[index]), key) for index in (2, 1, 0)}
    assert [got[index][0] for index in range(3)] == [CODES[letter] for letter in EXPECTED[name][role]]
    if role in {"nobody", "stranger"}:
        assert {reason for _, reason in got.values()} == {"API_KEY_MISSING" if key is None else "API_KEY_INVALID"}
    if [got[index][0] for index in (1, 2)] == ["NOT_FOUND", "NOT_FOUND"]:
        assert got[1] == got[2]


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Basic {key}", "{key}", "Bearer {key}x", "Bearer {key} {key}", "Bearer {other}"],
)
def test_only_a_bearer_token_that_is_a_key_lets_in(channel: grpc.Channel, world: World, authorization: str) -> None:
    """The last has the id of a key that is valid, with another secret."""
    _, key = world.principal()
    other = "_".join((*key.split("_")[:2], "0" * 64))
    value = authorization.format(key=key, other=other)
    call = channel.unary_unary("/duovec.v1.CodebaseService/ListCodebases")
    with pytest.raises(grpc.RpcError) as raised:
        call(b"", timeout=30, metadata=[("authorization", value)])
    failure = from_rpc_error(raised.value, "")
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, "API_KEY_INVALID")
    assert call(b"", timeout=30, metadata=[("authorization", f"bearer {key}")]) is not None


def test_health_is_open_without_a_key(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load balancers hold no keys; that reflection is open, too, is what a foreign client begins with."""
    monkeypatch.delenv("DUOVEC_API_KEY", raising=False)
    with Client(stack.endpoint) as client:
        assert client.health() == "SERVING"
        with pytest.raises(ClientError, match="no API key") as failure:
            client.create_codebase("x")
    assert failure.value.code == grpc.StatusCode.UNAUTHENTICATED


def test_lists_show_what_the_caller_may_see(stack: Stack, world: World) -> None:
    """One's codebases; of principals oneself and whoever reads what one owns."""
    for role, codebases, principals in (("outsider", 0, 1), ("reader", 1, 1), ("owner", 1, 3)):
        key, (own, other, _) = world.caller(role)
        with Client(stack.endpoint, api_key=key) as client:
            assert [row.codebase_id for row in client.list_codebases()] == [own.codebase_id][:codebases]
            seen = {row.principal_id for row in client.access.list_principals()}
        assert own.principal_id in seen
        assert other.principal_id not in seen
        # The owner's codebase was granted to the grantee, and created by the administrator.
        assert len(seen) == principals


def test_the_creator_of_a_codebase_owns_it(stack: Stack, world: World) -> None:
    principal_id, key = world.principal()
    grantee_id, grantee_key = world.principal()
    with Client(stack.endpoint, api_key=key) as client, Client(stack.endpoint, api_key=grantee_key) as grantee:
        client.create_codebase("permissions-created")
        grants = [(grant.principal_id, grant.role) for grant in client.access.list_grants("permissions-created")]
        assert grants == [(principal_id, 3)]
        client.access.set_grant("permissions-created", grantee_id, "write")
        assert grantee.get_codebase("permissions-created").chunk_count == 0
        # Seen for the grant, and still no business of the owner's.
        for attempt in (
            lambda: client.access.create_api_key(grantee_id),
            lambda: list(client.access.list_api_keys(grantee_id)),
        ):
            with pytest.raises(ClientError) as failure:
                attempt()
            assert (failure.value.code.name, failure.value.reason) == ("PERMISSION_DENIED", "ADMIN_REQUIRED")
        with pytest.raises(ClientError, match="takes the role OWNER on codebase 'permissions-created'; yours is WRITE"):
            grantee.delete_codebase("permissions-created")
        client.access.delete_grant("permissions-created", grantee_id)
        with pytest.raises(ClientError, match="'permissions-created' does not exist"):
            grantee.get_codebase("permissions-created")
        client.delete_codebase("permissions-created")


def test_an_id_that_is_taken_is_said_alike_to_all(stack: Stack, world: World) -> None:
    """It is the one thing that is learned of another's codebase, and nothing else with it."""
    messages = set()
    grantee_id, _ = world.principal()
    codebase_id = world.codebase(grantee_id)
    for key in (stack.api_key, world.principal()[1]):
        with Client(stack.endpoint, api_key=key) as client, pytest.raises(ClientError) as failure:
            client.create_codebase(codebase_id)
        messages.add(str(failure.value))
    assert messages == {f"the codebase id '{codebase_id}' is taken; choose another"}


def test_no_secret_is_in_the_gateway_s_log(stack: Stack, world: World) -> None:
    """After thousands of calls with keys good and bad: of keys at most the id stands there."""
    _, key = world.principal()
    with Client(stack.endpoint, api_key=key) as client:
        list(client.list_codebases())
    log = (stack.admin_key_file.parent / "logs" / "gateway.log").read_text(encoding="utf-8")
    assert log
    for secret in (key, stack.api_key):
        assert secret.split("_")[2] not in log
    assert stack.admin_key_file.stat().st_mode & 0o777 == 0o600


def test_random_searches_find_what_was_granted_and_nothing_else(
    stack: Stack, channel: grpc.Channel, world: World, client: Client
) -> None:
    """Some of what the store is asked thousands of times, over RPC: of many codebases all are readable, or none is."""
    generator = random.Random(2560)
    callers = dict(world.principal() for _ in range(4))
    grantee_id, _ = world.principal()
    codebases = [world.codebase(grantee_id) for _ in range(5)]
    for codebase_id in codebases:
        chunk = index_service_pb2.IndexChunksRequest(codebase_id=codebase_id, item_id="1", chunk=CHUNK)
        assert all(reply.HasField("indexed") for reply in index_chunks(client, iter([chunk])))
    granted: set[tuple[str, str]] = set()
    found_count = refused_count = 0
    for _ in range(150):
        name, codebase_id = generator.choice(list(callers)), generator.choice(codebases)
        if (name, codebase_id) in granted:
            client.access.delete_grant(codebase_id, name)
            granted.remove((name, codebase_id))
        else:
            client.access.set_grant(codebase_id, name, generator.choice(("read", "write", "owner")))
            granted.add((name, codebase_id))
        name, named = generator.choice(list(callers)), generator.sample(codebases, generator.randint(1, 3))
        fields = {"codebase_ids": named, "query": "x"}
        code, _ = outcome(channel, "SearchService.Search", fields, callers[name])
        if all((name, codebase_id) in granted for codebase_id in named):
            assert code == "OK"
            with Client(stack.endpoint, api_key=callers[name]) as caller:
                assert {hit.codebase_id for hit in caller.search(named, "x").hits} == set(named)
            found_count += 1
        else:
            assert code == "NOT_FOUND"
            refused_count += 1
    assert found_count > 20
    assert refused_count > 20
