"""The protos keep the house rules, and the committed stubs are theirs."""

import re
import runpy
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.rpc import status_pb2
from grpc_tools import protoc

PROTOS_DIR = Path(__file__).parents[2] / "protos"
STUB_SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")

# Field numbers of descriptor.proto, of which the paths of source locations are made.
FILE_MESSAGE, FILE_ENUM, FILE_SERVICE = 4, 5, 6
MESSAGE_FIELD, MESSAGE_NESTED, MESSAGE_ENUM, MESSAGE_ONEOF = 2, 3, 4, 8
ENUM_VALUE, SERVICE_METHOD = 2, 2

Location = tuple[int, ...]


@pytest.fixture(scope="module")
def protos(tmp_path_factory: pytest.TempPathFactory) -> list[FileDescriptorProto]:
    """Our protos as descriptors, with their comments."""
    output = tmp_path_factory.mktemp("descriptors") / "duovec.binpb"
    includes = (PROTOS_DIR, Path(status_pb2.__file__).parents[2], files("grpc_tools") / "_proto")
    code = protoc.main(
        [
            "protoc",
            *(f"--proto_path={path}" for path in includes),
            "--include_source_info",
            f"--descriptor_set_out={output}",
            *sorted(str(path) for path in PROTOS_DIR.glob("duovec/**/*.proto")),
        ]
    )
    assert code == 0
    found = list(FileDescriptorSet.FromString(output.read_bytes()).file)
    assert len(found) == len(list(PROTOS_DIR.glob("duovec/**/*.proto")))
    return found


def stubs_in(folder: Path) -> dict[str, bytes]:
    """Generated files under a folder by their path in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.name.endswith(STUB_SUFFIXES)
    }


def elements(proto: FileDescriptorProto) -> Iterator[tuple[str, Location]]:
    """Name everything in a file that must carry a comment, with the path of its source location."""
    for index, service in enumerate(proto.service):
        yield service.name, (FILE_SERVICE, index)
        for number, method in enumerate(service.method):
            yield f"{service.name}.{method.name}", (FILE_SERVICE, index, SERVICE_METHOD, number)
    for index, message in enumerate(proto.message_type):
        yield from elements_of_message(message, message.name, (FILE_MESSAGE, index))
    for index, enum in enumerate(proto.enum_type):
        yield from elements_of_enum(enum, enum.name, (FILE_ENUM, index))


def elements_of_message(message: DescriptorProto, name: str, location: Location) -> Iterator[tuple[str, Location]]:
    """The message, its fields, oneofs, and what is nested in it."""
    yield name, location
    for index, field in enumerate(message.field):
        yield f"{name}.{field.name}", (*location, MESSAGE_FIELD, index)
    for index, oneof in enumerate(message.oneof_decl):
        if not oneof.name.startswith("_"):  # protoc makes one of every optional field
            yield f"{name}.{oneof.name}", (*location, MESSAGE_ONEOF, index)
    for index, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from elements_of_message(nested, f"{name}.{nested.name}", (*location, MESSAGE_NESTED, index))
    for index, enum in enumerate(message.enum_type):
        yield from elements_of_enum(enum, f"{name}.{enum.name}", (*location, MESSAGE_ENUM, index))


def elements_of_enum(enum: EnumDescriptorProto, name: str, location: Location) -> Iterator[tuple[str, Location]]:
    """The enum and its values."""
    yield name, location
    for index, value in enumerate(enum.value):
        yield f"{name}.{value.name}", (*location, ENUM_VALUE, index)


def enums_of(proto: FileDescriptorProto) -> Iterator[EnumDescriptorProto]:
    """All enums of a file, nested ones included."""

    def nested(message: DescriptorProto) -> Iterator[EnumDescriptorProto]:
        yield from message.enum_type
        for inner in message.nested_type:
            yield from nested(inner)

    yield from proto.enum_type
    for message in proto.message_type:
        yield from nested(message)


def test_committed_stubs_are_fresh(tmp_path: Path) -> None:
    """Whoever edits a proto runs `make proto`, and commits what it writes."""
    generate = runpy.run_path(str(PROTOS_DIR / "generate.py"))["generate"]
    generate(tmp_path)
    fresh, committed = stubs_in(tmp_path), stubs_in(PROTOS_DIR)
    assert fresh
    assert sorted(committed) == sorted(fresh)
    assert [name for name, content in fresh.items() if committed[name] != content] == [], "run `make proto`"


def test_everything_carries_a_comment(protos: list[FileDescriptorProto]) -> None:
    """The protos are the reference that users read."""
    bare = []
    for proto in protos:
        comments = {tuple(one.path): one.leading_comments.strip() for one in proto.source_code_info.location}
        bare += [f"{proto.name}: {name}" for name, location in elements(proto) if not comments.get(location)]
    assert bare == []


def test_package_is_that_of_the_folder(protos: list[FileDescriptorProto]) -> None:
    """buf's PACKAGE_DIRECTORY_MATCH."""
    assert {(proto.package, Path(proto.name).parent.as_posix()) for proto in protos} == {("duovec.v1", "duovec/v1")}


def test_services_end_in_service(protos: list[FileDescriptorProto]) -> None:
    """buf's SERVICE_SUFFIX."""
    names = [service.name for proto in protos for service in proto.service]
    assert {"CodebaseService", "EmbeddingService", "IndexService", "SearchService"} <= set(names)
    assert [name for name in names if not name.endswith("Service")] == []


def test_requests_and_responses_are_named_after_their_rpc(protos: list[FileDescriptorProto]) -> None:
    """Each RPC has a request and a response of its own, so that each can change alone."""
    methods = [(proto.package, method) for proto in protos for service in proto.service for method in service.method]
    wrong = [
        method.name
        for package, method in methods
        if (method.input_type, method.output_type)
        != (f".{package}.{method.name}Request", f".{package}.{method.name}Response")
    ]
    assert wrong == []
    # Two RPCs of one name in two services would share their messages.
    assert len({method.name for _, method in methods}) == len(methods)


def test_enum_values_carry_the_prefix_and_zero_means_unspecified(protos: list[FileDescriptorProto]) -> None:
    """buf's ENUM_VALUE_PREFIX and ENUM_ZERO_VALUE_SUFFIX."""
    wrong = []
    for enum in (enum for proto in protos for enum in enums_of(proto)):
        prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
        wrong += [value.name for value in enum.value if not value.name.startswith(prefix)]
        wrong += [value.name for value in enum.value if (value.number == 0) != (value.name == f"{prefix}UNSPECIFIED")]
    assert wrong == []
