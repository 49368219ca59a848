"""One IndexChunks call as it is on the wire: nothing is sent ahead, resent or translated but the error."""

from collections.abc import Iterator
from typing import Any

import grpc

from duovec.v1 import index_service_pb2 as index_pb
from duovec.v1.index_service_pb2_grpc import IndexServiceStub
from gateway.client.client import Client
from gateway.client.errors import from_rpc_error
from gateway.wire import client_options


def index_chunks(
    client: Client, requests: Iterator[index_pb.IndexChunksRequest]
) -> Iterator[index_pb.IndexChunksResponse]:
    """Yield the replies to requests, which a thread of grpc consumes and which must end; with the client's key."""
    target = client._connection.target
    with grpc.insecure_channel(target.address, client_options()) as channel:
        call: Any = IndexServiceStub(channel).IndexChunks(requests, metadata=client._connection._metadata)
        try:
            yield from call
        except grpc.RpcError as error:
            raise from_rpc_error(error, target.endpoint) from error
        finally:
            call.cancel()
