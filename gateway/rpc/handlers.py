"""The handlers of duovec's own methods, of which there are two shapes: one request and reply, and a stream of both."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

Unary = Callable[..., Awaitable[Any]]
Stream = Callable[..., AsyncIterator[Any]]


def is_own(method: str) -> bool:
    """Whether a method, `/package.Service/Method`, is one that duovec answers, not of health or reflection."""
    return method.startswith(("/duovec.", "/tei."))


def wrapped(
    handler: Any,
    *,
    unary: Callable[[Unary], Unary],
    stream: Callable[[Stream], Stream],
    request_deserializer: Callable[[bytes], Any] | None = None,
) -> Any:
    """A handler that calls another one's behavior through a wrapper.

    Args:
        handler: What grpc gives for one of duovec's own methods.
        unary: Wraps the behavior of a method with one request and one reply.
        stream: Wraps the behavior of a method with streams of both.
        request_deserializer: Reads requests; None for what the handler has.
    """
    make, behavior = (
        (grpc.unary_unary_rpc_method_handler, unary(handler.unary_unary))
        if handler.unary_unary
        else (grpc.stream_stream_rpc_method_handler, stream(handler.stream_stream))
    )
    return make(
        behavior,
        request_deserializer=request_deserializer or handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
