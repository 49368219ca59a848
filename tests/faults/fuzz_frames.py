"""HTTP/2 as a gRPC client would write it by hand, and what is left of it after somebody has damaged it."""

import struct

from hypothesis import strategies as st

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes, *, stated_length: int | None = None) -> bytes:
    """A frame; its header may state another length than it has."""
    length = len(payload) if stated_length is None else stated_length
    return struct.pack(">I", length & 0xFFFFFF)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def headers(fields: list[tuple[bytes, bytes]]) -> bytes:
    """A block of headers, each a literal that is not indexed."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields)


def _text(value: bytes) -> bytes:
    if len(value) < 127:
        return bytes([len(value)]) + value
    rest, encoded = len(value) - 127, b"\x7f"
    while rest >= 128:
        encoded, rest = encoded + bytes([rest % 128 + 128]), rest // 128
    return encoded + bytes([rest]) + value


def message(data: bytes, *, compressed: int = 0, stated_length: int | None = None) -> bytes:
    """A gRPC message as it stands in DATA frames."""
    return struct.pack(">BI", compressed, len(data) if stated_length is None else stated_length) + data


def call_headers(path: bytes, authorization: bytes, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """The headers of a call."""
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"fuzz"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"authorization", authorization),
        *more,
    ]


def call(path: bytes, authorization: bytes, request: bytes) -> list[bytes]:
    """The frames of a sound unary call."""
    return [
        frame(SETTINGS, 0, 0, b""),
        frame(HEADERS, END_HEADERS, 1, headers(call_headers(path, authorization))),
        frame(DATA, END_STREAM, 1, message(request)),
    ]


_ODD_FIELDS = st.sampled_from(
    (
        (b"grpc-timeout", b"99999999999H"),
        (b"grpc-timeout", b"-1S"),
        (b"grpc-timeout", b"0n"),
        (b"grpc-encoding", b"gzip"),
        (b"grpc-encoding", b"no-such"),
        (b"content-type", b"text/html"),
        (b"authorization", b"Bearer " + b"\xff" * 40),
        (b"authorization", b"x" * 6000),
        (b"x-big", b"y" * 20_000),
        (b"grpc-status-details-bin", b"%%%"),
        (b"UPPER", b"case"),
        (b":path", b"/duovec.v1.SearchService/Search"),
        (b"connection", b"close"),
        (b"", b""),
        (b"name\0", b"\r\nx: y"),
    )
)


@st.composite
def conversations(draw: st.DrawFn, path: bytes, authorization: bytes, request: bytes) -> bytes:
    """What a client writes that is broken somewhere; every tenth has nothing to do with HTTP/2."""
    if draw(st.integers(0, 9)) == 0:
        return draw(
            st.binary(max_size=300) | st.just(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") | st.just(b"\x16\x03\x01\x02\x00")
        )
    frames = call(path, authorization, request)
    for _ in range(draw(st.integers(1, 4))):
        frames.insert(draw(st.integers(0, len(frames))), draw(_odd_frames(path, authorization, request)))
    if draw(st.booleans()):
        del frames[draw(st.integers(0, len(frames) - 1))]
    data = bytearray(PREFACE + b"".join(frames))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(len(data) // 2, len(data)))] if draw(st.booleans()) else data)


@st.composite
def _odd_frames(draw: st.DrawFn, path: bytes, authorization: bytes, request: bytes) -> bytes:
    stream = draw(st.sampled_from((0, 1, 1, 1, 2, 3, 2**31 - 1, 2**31)))
    match draw(st.integers(0, 6)):
        case 0:
            return frame(draw(st.integers(0, 255)), draw(st.integers(0, 255)), stream, draw(st.binary(max_size=60)))
        case 1:
            stated = draw(st.sampled_from((0, 1, len(request) + 1, 2**20, 2**32 - 1)))
            odd = message(request, compressed=draw(st.sampled_from((0, 1, 2, 255))), stated_length=stated)
            return frame(DATA, draw(st.sampled_from((0, END_STREAM))), stream, odd)
        case 2:
            fields = [*call_headers(path, authorization), draw(_ODD_FIELDS), draw(_ODD_FIELDS)]
            return frame(HEADERS, END_HEADERS | draw(st.sampled_from((0, END_STREAM))), stream, headers(fields))
        case 3:
            settings = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2**32 - 1)), max_size=4))
            return frame(SETTINGS, 0, stream, b"".join(struct.pack(">HI", *one) for one in settings))
        case 4:
            return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", draw(st.integers(0, 2**32 - 1))))
        case 5:
            return frame(RST_STREAM, 0, stream, struct.pack(">I", draw(st.integers(0, 20))))
        case _:
            sound = frame(PING, 0, 0, bytes(8)) + frame(GOAWAY, 0, 0, bytes(8))
            return frame(DATA, 0, stream, b"x", stated_length=draw(st.integers(0, 2**24 - 1))) + sound
