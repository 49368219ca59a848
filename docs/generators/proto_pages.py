"""The reference of the gRPC services, from the comments of the protos: one page a file."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from google.rpc import status_pb2
from grpc_tools import protoc
from markdown_tables import table

PROTOS_DIR = Path(__file__).parents[2] / "protos"
# Field numbers of descriptor.proto, of which the paths of source locations are made.
_FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 4, 5, 6
_MESSAGE_FIELD, _MESSAGE_NESTED, _MESSAGE_ENUM, _MESSAGE_ONEOF = 2, 3, 4, 8
_SCALARS = {number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()}
_INTRODUCTION = """# gRPC API

Package `duovec.v1`, in `protos/duovec/v1`; reflection is on. Every call but health and reflection takes an API key as
metadata, `authorization: Bearer KEY`. Every error of the service carries `google.rpc.ErrorInfo` with one of the
[reasons](../errors.md). Calls with one reply, but those of EmbeddingService, are also
`POST /duovec.v1.SERVICE/METHOD` with JSON on the [HTTP port](../http.md). Below are all calls; the pages behind them
are made from the comments of the protos.
"""

_Location = tuple[int, ...]


@dataclass(frozen=True)
class _File:
    """A proto with its comments by the path of their place."""

    proto: FileDescriptorProto
    comments: dict[_Location, str]
    links: dict[str, str]

    def comment(self, *location: int) -> str:
        return self.comments.get(location, "")


def proto_pages() -> dict[str, str]:
    """Pages by their place in the site."""
    protos = read_protos()
    links = {name: place for proto in protos for name, place in _places(proto)}
    pages = {"reference/grpc/index.md": _index(protos)}
    for proto in protos:
        comments = {tuple(one.path): one.leading_comments.strip() for one in proto.source_code_info.location}
        pages[f"reference/grpc/{_page_name(proto)}"] = _page(_File(proto, comments, links))
    return pages


def read_protos() -> list[FileDescriptorProto]:
    """The protos of the package, as protoc reads them."""
    sources = sorted(PROTOS_DIR.glob("duovec/**/*.proto"))
    includes = (PROTOS_DIR, Path(status_pb2.__file__).parents[2], files("grpc_tools") / "_proto")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "duovec.binpb"
        code = protoc.main(
            [
                "protoc",
                *(f"--proto_path={path}" for path in includes),
                "--include_source_info",
                f"--descriptor_set_out={output}",
                *map(str, sources),
            ]
        )
        if code != 0:
            raise RuntimeError(f"protoc exited with {code}")
        return list(FileDescriptorSet.FromString(output.read_bytes()).file)


def _page_name(proto: FileDescriptorProto) -> str:
    return f"{Path(proto.name).stem}.md"


def _places(proto: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Every message, enum and method by its full name, with its page and anchor."""
    page = _page_name(proto)

    def nested(message: DescriptorProto, scope: str) -> Iterator[str]:
        yield f"{scope}.{message.name}"
        for inner in message.nested_type:
            yield from nested(inner, f"{scope}.{message.name}")
        yield from (f"{scope}.{message.name}.{enum.name}" for enum in message.enum_type)

    names = [name for message in proto.message_type for name in nested(message, f".{proto.package}")]
    names += [f".{proto.package}.{enum.name}" for enum in proto.enum_type]
    for name in names:
        yield name, f"{page}#{_anchor(name)}"


def _anchor(full_name: str) -> str:
    return full_name.removeprefix(".duovec.v1.").replace(".", "-").lower()


def _index(protos: list[FileDescriptorProto]) -> str:
    parts = [_INTRODUCTION]
    for proto in protos:
        comments = {tuple(one.path): one.leading_comments.strip() for one in proto.source_code_info.location}
        for number, service in enumerate(proto.service):
            parts.append(f"## [{service.name}]({_page_name(proto)})\n\n{comments[_FILE_SERVICE, number]}\n")
            rows = [
                [
                    f"[{method.name}]({_page_name(proto)}#{_anchor(method.name)})",
                    _first_sentence(comments[_FILE_SERVICE, number, 2, position]),
                    _streams(method.client_streaming, method.server_streaming),
                ]
                for position, method in enumerate(service.method)
            ]
            parts.append(table(["Call", "What it does", "Streams"], rows))
    shared = [proto for proto in protos if not proto.service]
    listed = ", ".join(f"[{Path(proto.name).stem}]({_page_name(proto)})" for proto in shared)
    parts.append(f"## Shared messages\n\n{listed}\n")
    return "\n".join(parts)


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).split(". ")[0].rstrip(".") + "."


def _streams(client: bool, server: bool) -> str:
    return {(True, True): "both ways", (False, True): "replies", (True, False): "requests"}.get((client, server), "")


def _page(file: _File) -> str:
    services = [service.name for service in file.proto.service]
    title = services[0] if services else Path(file.proto.name).stem.replace("_", " ").capitalize()
    parts = [f"# {title}\n\n`protos/{file.proto.name}`\n"]
    for number, service in enumerate(file.proto.service):
        parts += _service(file, service, (_FILE_SERVICE, number))
    if services:
        parts.append("## Messages\n")
    for number, message in enumerate(file.proto.message_type):
        parts += _message(file, message, (_FILE_MESSAGE, number), f".{file.proto.package}")
    for number, enum in enumerate(file.proto.enum_type):
        parts += _enum(file, enum, (_FILE_ENUM, number), f".{file.proto.package}")
    return "\n".join(parts)


def _service(file: _File, service: ServiceDescriptorProto, location: _Location) -> Iterator[str]:
    yield f"{file.comment(*location)}\n"
    for number, method in enumerate(service.method):
        request = ("stream of " if method.client_streaming else "") + _linked(file, method.input_type)
        reply = ("stream of " if method.server_streaming else "") + _linked(file, method.output_type)
        yield f"## {method.name} {{ #{_anchor(method.name)} }}\n"
        yield f"{request} → {reply}\n"
        yield f"{file.comment(*location, 2, number)}\n"


def _message(file: _File, message: DescriptorProto, location: _Location, scope: str) -> Iterator[str]:
    if message.options.map_entry:
        return
    name = f"{scope}.{message.name}"
    yield f"### {name.removeprefix('.duovec.v1.')} {{ #{_anchor(name)} }}\n"
    yield f"{file.comment(*location)}\n"
    if message.field:
        rows = [_field(file, message, field, (*location, _MESSAGE_FIELD, i)) for i, field in enumerate(message.field)]
        yield table(["Field", "Type", "Meaning"], rows)
    for number, oneof in enumerate(message.oneof_decl):
        if not oneof.name.startswith("_"):  # protoc makes one of every optional field
            members = [field.name for field in message.field if _in_oneof(field) and field.oneof_index == number]
            said = file.comment(*location, _MESSAGE_ONEOF, number)
            yield f"`{oneof.name}`, one of {', '.join(f'`{member}`' for member in members)}: {said}\n"
    for number, inner in enumerate(message.nested_type):
        yield from _message(file, inner, (*location, _MESSAGE_NESTED, number), name)
    for number, enum in enumerate(message.enum_type):
        yield from _enum(file, enum, (*location, _MESSAGE_ENUM, number), name)


def _in_oneof(field: FieldDescriptorProto) -> bool:
    return field.HasField("oneof_index") and not field.proto3_optional


def _field(file: _File, message: DescriptorProto, field: FieldDescriptorProto, location: _Location) -> list[str]:
    kind = _SCALARS[field.type]
    shown = _linked(file, field.type_name) if kind in {"message", "enum"} else f"`{kind}`"
    maps = {f".{file.proto.package}.{message.name}.{nested.name}": nested for nested in message.nested_type}
    if (entry := maps.get(field.type_name)) is not None and entry.options.map_entry:
        shown = "map of `" + "`, `".join(_SCALARS[part.type] for part in entry.field) + "`"
    elif field.label == FieldDescriptorProto.LABEL_REPEATED:
        shown = f"repeated {shown}"
    elif field.proto3_optional:
        shown = f"optional {shown}"
    elif _in_oneof(field):
        shown = f"{shown}, one of `{message.oneof_decl[field.oneof_index].name}`"
    return [f"`{field.name}` = {field.number}", shown, file.comment(*location)]


def _linked(file: _File, full_name: str) -> str:
    short = full_name.removeprefix(".duovec.v1.").removeprefix(".")
    return f"[`{short}`]({file.links[full_name]})" if full_name in file.links else f"`{short}`"


def _enum(file: _File, enum: EnumDescriptorProto, location: _Location, scope: str) -> Iterator[str]:
    name = f"{scope}.{enum.name}"
    yield f"### {name.removeprefix('.duovec.v1.')} {{ #{_anchor(name)} }}\n"
    yield f"{file.comment(*location)}\n"
    rows = [
        [f"`{value.name}` = {value.number}", file.comment(*location, 2, number)]
        for number, value in enumerate(enum.value)
    ]
    yield table(["Value", "Meaning"], rows)
