"""Vectors as the bytes that protobuf has on the wire.

Parsing them takes 1 µs, where setting a repeated field from 2,560 Python floats takes 50 to 300.
"""

import numpy as np
from numpy.typing import NDArray

_FIELD_1_OF_LENGTH = b"\x0a"


def first_field_of_floats(vector_D: NDArray[np.float32]) -> bytes:
    """A message that has nothing but `repeated float … = 1`, packed."""
    data = vector_D.astype("<f4", copy=False).tobytes()
    return _FIELD_1_OF_LENGTH + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(groups) + bytes([number])
