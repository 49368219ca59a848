"""Replies of a stream that runs."""

from collections.abc import Iterator
from typing import Any

import grpc

from duovec.v1 import index_service_pb2 as index_pb
from gateway.client.errors import from_rpc_error


class Replies:
    """Replies of a running IndexChunks call; iterating raises ClientError when the call fails."""

    def __init__(self, call: Any, endpoint: str) -> None:
        """Args: call: As the stub gave it. endpoint: Where it goes, for messages."""
        self._call = call
        self._endpoint = endpoint

    def __iter__(self) -> Iterator[index_pb.IndexChunksResponse]:
        """Yield replies as they come."""
        try:
            yield from self._call
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._endpoint) from error

    def cancel(self) -> None:
        """End the call now; safe in any state and from any thread."""
        self._call.cancel()
