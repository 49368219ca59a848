"""Messages of the service as `--json` prints them."""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

_64_BITS = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)


def to_dict(message: Message) -> dict[str, Any]:
    """Every field by its name in the proto; those that are unset and may be are left out.

    Integers of 64 bits are JSON's own numbers, as programs expect them, not the strings of proto's JSON.
    """
    fields: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    _make_numbers(fields, message.DESCRIPTOR)
    return fields


# The stubs have two types for a descriptor, of which this takes either.
def _make_numbers(fields: dict[str, Any], descriptor: Any) -> None:
    for field in descriptor.fields:
        value = fields.get(field.name)
        if field.cpp_type in _64_BITS and value is not None:
            fields[field.name] = [int(one) for one in value] if isinstance(value, list) else int(value)
        elif field.message_type is not None and field.message_type.file.package == descriptor.file.package:
            # Others, such as google.protobuf.Struct, have a form of their own.
            for inner in value if isinstance(value, list) else [value]:
                if inner is not None:
                    _make_numbers(inner, field.message_type)
