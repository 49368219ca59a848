"""What the server has of each file, in few bytes: an indexer holds it of all files at once, which may be a million."""

import struct
from collections.abc import Iterable
from typing import NamedTuple

StoredVersions = dict[str, bytes]
"""The versions of each path, as far as they are known, as `pack` makes them."""

# A protobuf, or an object, takes ten times the 37 bytes of the fields.
_RECORD = struct.Struct("<32sI?")


class StoredVersion(NamedTuple):
    """A version of a file.

    Attributes:
        file_sha256: Of its bytes.
        chunk_count: Chunks that it was cut into, be they all there or not.
        is_complete: Whether they are.
    """

    file_sha256: bytes
    chunk_count: int
    is_complete: bool


UNKNOWN = StoredVersion(bytes(32), 1, is_complete=False)
"""Stands for whatever the server may have of a file."""


def pack(versions: Iterable[StoredVersion]) -> bytes:
    """Pack the versions of a file; what is packed may be joined."""
    return b"".join(_RECORD.pack(*version) for version in versions)


def unpack(packed: bytes) -> list[StoredVersion]:
    """Give what `pack` took."""
    return [StoredVersion._make(record) for record in _RECORD.iter_unpack(packed)]
