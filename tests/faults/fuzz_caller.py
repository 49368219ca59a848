"""Calls any method with any request, and judges what came back."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from fuzz_messages import statuses_in
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from gateway.client.errors import from_rpc_error

DEADLINE_S = 30.0
"""Far more than any of these requests may take: whoever does not answer before hangs."""
_ANSWERS = frozenset(
    {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
_ANSWER_NUMBERS = {code.value[0] for code in _ANSWERS}
_MOST_REPLIES = 10
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n(?:  .*\n)+.*\n")


@dataclass
class Fuzzer:
    """Somebody who sends anything.

    Attributes:
        channel: Where to.
        key: Whose API key is sent.
        outcomes: How often a method ended with a code.
        replies: The last reply of each method that was answered.
    """

    channel: grpc.Channel
    key: str
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    replies: dict[str, Message] = field(default_factory=dict)

    def call(self, method: MethodDescriptor, requests: Sequence[Message | bytes]) -> list[Message]:
        """Send one request, or a stream of them; gives the replies, none where the call was refused.

        Raises:
            AssertionError: The answer is none that a caller's input may lead to.
        """
        name = f"{method.containing_service.full_name}/{method.name}"
        sent = [one if isinstance(one, bytes) else one.SerializeToString() for one in requests]
        replies: list[Message] = []
        try:
            for reply in self._replies(f"/{name}", method, sent):
                replies.append(reply)
                if len(replies) >= _MOST_REPLIES and method.server_streaming:
                    break
        except grpc.RpcError as error:
            failure = from_rpc_error(error, "the gateway")
            self.outcomes[name, failure.code.name] += 1
            what = f"{name}: {failure.code} {failure} for {requests!r:.3000}"
            assert failure.code in _ANSWERS, what
            if name.startswith("duovec.") and failure.code is not grpc.StatusCode.UNIMPLEMENTED:
                assert failure.reason, f"no reason: {what}"
        else:
            self.outcomes[name, "OK"] += 1
        for reply in replies:
            self.replies[name] = reply
            for status in statuses_in(reply):
                assert status.code in _ANSWER_NUMBERS, f"{name}: {status} for {requests!r:.3000}"
        return replies

    def _replies(self, path: str, method: MethodDescriptor, sent: list[bytes]) -> Any:
        kind = ("stream" if method.client_streaming else "unary", "stream" if method.server_streaming else "unary")
        make = getattr(self.channel, "_".join(kind))
        response = GetMessageClass(method.output_type)
        call = make(path, request_serializer=bytes, response_deserializer=response.FromString)
        request = iter(sent) if method.client_streaming else sent[0]
        metadata = (("authorization", f"Bearer {self.key}"),)
        answered = call(request, timeout=DEADLINE_S, metadata=metadata)
        if not method.server_streaming:
            return [answered]
        if method.name == "Watch":
            # It never ends: the first answer counts.
            try:
                return [next(answered)]
            finally:
                answered.cancel()
        return answered


def complaints(log: Path) -> str:
    """What a gateway's log says of errors that nobody foresaw; those inside gRPC, which end with the call, are none."""
    text = log.read_text(errors="replace")
    for found in _TRACEBACK.finditer(text):
        if any("File" in line and "src/python/grpcio" not in line for line in found[0].splitlines()):
            return text[max(0, found.start() - 500) : found.end() + 500]
    at = max(text.find("unforeseen"), text.find("Task exception was never retrieved"))
    return "" if at < 0 else text[max(0, at - 500) : at + 5000]
