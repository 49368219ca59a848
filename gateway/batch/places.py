"""Where sources and checkpoints are: a disk that all nodes share, or an object store."""

from pathlib import Path

import grpc
import pyarrow as pa
import pyarrow.fs as pa_fs

from gateway.client.errors import ClientError


def find_place(place: str) -> tuple[pa_fs.FileSystem, str]:
    """The file system of a path, or of a URI such as s3://bucket/folder, and the path in it.

    Raises:
        ClientError: It is a URI of nothing that is known.
    """
    try:
        system, path = pa_fs.FileSystem.from_uri(place if "://" in place else str(Path(place).absolute()))
    except pa.ArrowInvalid as error:
        raise ClientError(f"{place} is no place: {error}", code=grpc.StatusCode.INVALID_ARGUMENT) from error
    return system, path
