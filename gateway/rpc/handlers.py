"""The handlers of duovec's own methods, of two shapes: one reply to one request, and a stream of both."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from gateway.errors import InvalidInput

Unary = Callable[..., Awaitable[Any]]
Stream = Callable[..., AsyncIterator[Any]]


def is_own(method: str) -> bool:
    """Whether a method, `/package.Service/Method`, is one that duovec answers, not of health or reflection."""
    return method.startswith(("/duovec.", "/tei."))


def parsed(parse: Callable[[bytes], Any], data: bytes) -> Any:
    """The message that bytes are of.

    Raises:
        InvalidInput: They are of none; gRPC itself would answer UNKNOWN.
    """
    try:
        return parse(data)
    except DecodeError as exc:
        raise InvalidInput("request", f"does not parse, or has a string that is not UTF-8 ({exc})") from exc


def wrapped(
    handler: Any,
    *,
    unary: Callable[[Unary], Unary],
    stream: Callable[[Stream], Stream],
) -> Any:
    """A handler that calls another one's behavior through a wrapper.

    Args:
        handler: Of one of duovec's own methods: what grpc gives, or what an interceptor within makes of it.
        unary: Wraps the behavior of a method with one request and one reply, whether it is called with the request or
            with the stream that has it.
        stream: Wraps the behavior of a method with streams of both.
    """
    make, behavior = (
        (grpc.unary_unary_rpc_method_handler, unary(handler.unary_unary))
        if handler.unary_unary
        else (grpc.stream_unary_rpc_method_handler, unary(handler.stream_unary))
        if handler.stream_unary
        else (grpc.stream_stream_rpc_method_handler, stream(handler.stream_stream))
    )
    return make(
        behavior,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
