"""The folders that may be indexed: nothing outside of them is read."""

from collections.abc import Sequence
from pathlib import Path

import grpc

from gateway.client.errors import ClientError


class Roots:
    """Folders that were named when the server was started.

    Attributes:
        folders: Where they lie.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        """Take folders by where they lie now: links in their names are followed once, here.

        Raises:
            FileNotFoundError: One does not exist.
        """
        self.folders = tuple(folder.resolve(strict=True) for folder in folders)

    def find(self, folder: str) -> Path:
        """Give the folder that is meant, if it lies in a root.

        Args:
            folder: Absolute, or relative to the first root; links in it count by where they lead.

        Raises:
            ClientError: It is no folder, or lies elsewhere; of what lies elsewhere nothing else is told.
        """
        resolved = (self.folders[0] / folder).resolve()
        if not any(resolved.is_relative_to(root) for root in self.folders):
            allowed = ", ".join(map(str, self.folders))
            raise ClientError(
                f"{folder!r} is in no folder that may be indexed, which are: {allowed}; choose one there, or ask the "
                "user to start `duovec mcp` with another --root",
                code=grpc.StatusCode.PERMISSION_DENIED,
            )
        if not resolved.is_dir():
            raise ClientError(f"there is no folder {resolved}", code=grpc.StatusCode.INVALID_ARGUMENT)
        return resolved
