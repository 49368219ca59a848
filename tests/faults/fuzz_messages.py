"""Requests made from the descriptors of their messages: wholly random ones, and such as nearly could be meant."""

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import strategies as st

from duovec.v1 import embedding_service_pb2
from gateway.services import SERVICES

Values = Mapping[str, Sequence[Any]]
"""By name of a field, what it could be meant to hold."""

ODD_TEXTS = (
    *("", " ", "\0", "a\0b", "\n", "\r\n\t", "\x1b[31m", "\x7f", "\u202e\u2028\u0085", "\ufeff", "\U0010ffff", "́" * 40),
    *("a" * 63, "a" * 64, "A" * 2000, "-", "a-", "ä", "日" * 700, "x" * 20_000, "🙂" * 300),
    *(
        "../../etc/passwd",
        "/etc/passwd",
        "a//b",
        "a/./b",
        "C:\\x",
        "\\\\",
        "%00",
        "%s%n{0}${x}",
        "'; DROP TABLE chunks; --",
    ),
    *("*" * 300, "**/" * 60, "[" * 50, "{a,b}", "(a+)+$", "\\", "?" * 1000, "[!-]"),
    *("NaN", "1e999", "-0", "null", "true", "9" * 5000, "0x10", "1" * 30, "inf"),
    *("00000000-0000-0000-0000-000000000000", "f" * 64, "deadbeef", "g" * 64),
    *(
        "encoder = 1",
        "encoder = " + "9" * 5000,
        "a = " + "[" * 3000,
        "[[[",
        "x = 9999-99-99",
        "a.b.c = 1\na = 2",
        "\ufeffa = 1",
    ),
)
_ODD_PARTS = (
    *(
        "",
        "0",
        "-1",
        "1",
        str(2**31),
        str(2**63 - 1),
        str(2**63),
        "9" * 30,
        "1e308",
        "5e-324",
        "-1e308",
        "nan",
        "inf",
        "0.0",
    ),
    *(
        "a",
        "ZZ",
        "ff",
        "f" * 64,
        "é",
        "\ufffd",
        "x" * 5000,
        "2026-01-01",
        "0001-01-01T00:00:00+14:00",
        "²",
        "1_0",
        " 1 ",
    ),
    *(
        "9999-12-31T23:59:59-14:00",
        "2026-W01-1T00:00:00+00:00",
        "AAAA",
        "=",
        base64.b64encode(b"\xff\x7f" * 2560).decode(),
    ),
)
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_EDGES = (0, 1, -1, 2, 7, 64, 100, 101, 1000, 1001, 10_000, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1, -(2**63))
_MOST_DEPTH = 4


def services() -> Iterator[ServiceDescriptor]:
    """Every service of the gateway, with those that gRPC brings."""
    pool = embedding_service_pb2.DESCRIPTOR.pool
    yield from (pool.FindServiceByName(name) for name in SERVICES)
    yield health_pb2.DESCRIPTOR.services_by_name["Health"]
    yield reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]


def methods() -> list[MethodDescriptor]:
    """Every method of every service."""
    return [method for service in services() for method in service.methods]


def page_tokens(real: Sequence[str] = ()) -> st.SearchStrategy[str]:
    """Tokens of the right form, whose parts are odd; also real ones of which a part was exchanged."""
    parts = st.sampled_from(_ODD_PARTS) | st.text(max_size=8)
    made = st.lists(parts, min_size=1, max_size=10).map(lambda key: _token(key))
    if not real:
        return made | st.sampled_from(
            (_token("abc"), _token({"a": 1}), _token([1]), _token([None]), "e30=", "%", "[" * 999)
        )
    return (
        st.tuples(st.sampled_from(list(real)), st.integers(0, 9), parts).map(lambda chosen: _exchanged(*chosen)) | made
    )


def _token(key: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _exchanged(token: str, index: int, part: str) -> str:
    key = json.loads(base64.urlsafe_b64decode(token))
    key[index % len(key)] = part
    return _token(key)


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, values: Values, *, usual: bool) -> Message:
    """A message of a type.

    Args:
        draw: Hypothesis's.
        descriptor: The type.
        values: What fields could be meant to hold.
        usual: Whether most fields hold that; otherwise anything.
    """
    message: Message = GetMessageClass(descriptor)()
    _fill(draw, message, values, usual, 0)
    return message


def _fill(draw: st.DrawFn, message: Message, values: Values, usual: bool, depth: int) -> None:
    chosen = {
        oneof.name: draw(st.sampled_from([*oneof.fields, None]))
        for oneof in message.DESCRIPTOR.oneofs
        if len(oneof.fields) > 1
    }
    for field in message.DESCRIPTOR.fields:
        oneof = field.containing_oneof
        if oneof is not None and oneof.name in chosen and chosen[oneof.name] is not field:
            continue
        ways = ["usual"] * 8 + ["odd", "absent"] if usual else ["odd", "odd", "usual", "absent"]
        way = draw(st.sampled_from(ways))
        if way == "absent" or (field.message_type is not None and depth >= _MOST_DEPTH):
            continue
        _set(draw, message, field, values, way == "usual", depth)


def _set(draw: st.DrawFn, message: Message, field: FieldDescriptor, values: Values, usual: bool, depth: int) -> None:
    if field.is_repeated:
        count = draw(st.integers(1, 3) if usual else st.sampled_from((0, 1, 2, 3, 20)))
        target = getattr(message, field.name)
        for _ in range(count):
            if field.message_type is not None:
                _fill(draw, target.add(), values, usual, depth + 1)
            else:
                target.append(draw(_scalars(field, values, usual)))
    elif field.message_type is not None:
        child = getattr(message, field.name)
        child.SetInParent()
        _fill(draw, child, values, usual, depth + 1)
    else:
        setattr(message, field.name, draw(_scalars(field, values, usual)))


def _scalars(field: FieldDescriptor, values: Values, usual: bool) -> st.SearchStrategy[Any]:
    known = values.get(field.name)
    if usual and known:
        return st.sampled_from(list(known))
    if field.name.endswith("page_token"):
        return st.just("") if usual else page_tokens() | st.sampled_from(ODD_TEXTS)
    if field.enum_type is not None:
        numbers = [value.number for value in field.enum_type.values]
        return st.sampled_from(numbers if usual else [*numbers, -1, max(numbers) + 1, 2**31 - 1, -(2**31)])
    if field.cpp_type in _INTEGERS:
        least, most = _INTEGERS[field.cpp_type]
        edges = st.sampled_from([edge for edge in _EDGES if least <= edge <= most])
        return st.integers(0, 3) if usual else edges | st.integers(least, most)
    if field.cpp_type in {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}:
        width = 64 if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE else 32
        return st.floats(0, 1, width=width) if usual else st.floats(width=width) | st.sampled_from((math.nan, math.inf))
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=40)
    if usual:
        return st.text("abcdefghij _-.", min_size=1, max_size=20)
    # Not st.text() alone: half surrogates cannot be sent, and what hypothesis finds odd is mostly refused alike.
    return st.sampled_from(ODD_TEXTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@st.composite
def mutations(draw: st.DrawFn, sound: bytes) -> bytes:
    """Bytes of a message, of which some were flipped, left out, put in, repeated or cut off; or any bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    data = bytearray(sound)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(("flip", "cut", "insert", "remove", "repeat", "varint"))):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at:]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "remove":
                del data[at : at + draw(st.integers(1, 8))]
            case "repeat":
                data[at:at] = data[at : at + 40] * draw(st.integers(1, 50))
            case "varint":
                data[at : at + 1] = b"\xff" * draw(st.integers(1, 11)) + b"\x01"
    return bytes(data)


def statuses_in(message: Message) -> Iterator[status_pb2.Status]:
    """Every google.rpc.Status inside a message: the errors of single items."""
    if isinstance(message, status_pb2.Status):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for child in value if field.is_repeated else [value]:
                yield from statuses_in(child)
