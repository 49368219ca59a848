"""The gateway's own services as JSON over HTTP: `POST /duovec.v1.SearchService/Search` with the request as a message.

A message is written as protobuf's JSON mapping says: lowerCamelCase names, enums by name, bytes in base64, 64-bit
numbers as strings. The servicers are those of gRPC, so that both doors check, permit and log alike. Streams are gRPC's
alone, and so are vectors: for these there is /v1/embeddings.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator

from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from starlette.responses import Response
from starlette.routing import Route

from gateway.errors import InvalidInput
from gateway.http.bodies import maybe_in_thread, refuse_many
from gateway.http.door import Call, Door, Handler
from gateway.rpc.service import Service

_PACKAGE = "duovec.v1."
# Of its messages no form in JSON is short or fast.
_VECTORS = "duovec.v1.EmbeddingService"
_MAX_DEPTH = 16
_MAX_PARTS = 16_384
"""A thousand files, the most that any list may have, are 3,000."""
_MAX_MESSAGE_CHARS = 300


def rpc_routes(door: Door, services: Iterable[Service]) -> Iterator[Route]:
    """A route for each method with one request and one reply."""
    for service in services:
        if service.name == _VECTORS or not service.name.startswith(_PACKAGE):
            continue
        for method in service.descriptor.methods:
            if not method.client_streaming and not method.server_streaming:
                path = f"/{service.descriptor.full_name}/{method.name}"
                yield door.route(path, _handler(method, getattr(service.servicer, method.name)), verb="POST")


def _handler(method: MethodDescriptor, call: Callable[[Message, None], Awaitable[Message]]) -> Handler:
    request_class: type[Message] = GetMessageClass(method.input_type)

    async def handle(http_call: Call) -> Response:
        body = http_call.body
        request = request_class()
        await maybe_in_thread(_read, body, request, size_bytes=len(body))
        reply = await call(request, None)
        data = await maybe_in_thread(_written, reply, size_bytes=reply.ByteSize())
        return Response(data, media_type="application/json")

    return handle


def _read(body: bytes, request: Message) -> None:
    refuse_many(body, b"[{,", _MAX_PARTS)
    try:
        json_format.Parse(body or b"{}", request, max_recursion_depth=_MAX_DEPTH)
    except (json_format.ParseError, ValueError, RecursionError) as exc:
        raise InvalidInput("body", f"is no such message in JSON: {str(exc)[:_MAX_MESSAGE_CHARS]}") from exc


def _written(reply: Message) -> str:
    return json_format.MessageToJson(reply, always_print_fields_with_no_presence=True, indent=None)
