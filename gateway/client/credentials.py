"""Where a client finds its API key: an argument, DUOVEC_API_KEY, or the file of the endpoint."""

import contextlib
import os
from pathlib import Path

import grpc

from gateway.client.errors import ClientError


def key_file(endpoint: str) -> Path:
    """The file that holds the key for an endpoint, `$XDG_CONFIG_HOME/duovec/keys/HOST:PORT`.

    A file an endpoint, so that a key is sent nowhere but where it belongs.
    """
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    address = endpoint.rpartition("://")[2]
    return config / "duovec" / "keys" / address.replace("/", "_")


def find_api_key(endpoint: str) -> str | None:
    """Find the key for an endpoint: DUOVEC_API_KEY, or else its file; None where there is neither.

    Raises:
        ClientError: There is a file, and it cannot be read.
    """
    if key := os.environ.get("DUOVEC_API_KEY"):
        return key
    try:
        file = key_file(endpoint)
        return file.read_text(encoding="ascii").strip() or None
    except (FileNotFoundError, NotADirectoryError, RuntimeError):
        # RuntimeError: an account without a home, as a container's number may be.
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise ClientError(
            f"the file of the API key cannot be read ({exc}); mend or delete {file}, or set DUOVEC_API_KEY",
            code=grpc.StatusCode.INVALID_ARGUMENT,
        ) from exc


def save_api_key(endpoint: str, key: str) -> Path:
    """Keep a key for an endpoint in its file, which only this account may read.

    Returns:
        The file.

    Raises:
        OSError: It cannot be written.
    """
    file = key_file(endpoint)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    staging = file.with_name(f".{file.name}.{os.getpid()}")
    staging.unlink(missing_ok=True)
    descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(f"{key}\n")
    staging.replace(file)
    return file


def forget_api_key(endpoint: str, key: str) -> None:
    """Remove the file of an endpoint if it still holds this key."""
    with contextlib.suppress(OSError):
        file = key_file(endpoint)
        if file.read_text(encoding="ascii").strip() == key:
            file.unlink()
