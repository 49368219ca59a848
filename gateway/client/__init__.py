"""The Python client: `docs/reference/python.md` shows all of it on one page."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.client.client import AsyncClient, Client
    from gateway.client.errors import ClientError, FieldViolation
    from gateway.client.indexer import IndexingFailed, index_tree
    from gateway.client.report import IndexReport, Progress
    from gateway.client.sync import SyncReport, sync_tree
    from gateway.client.tls import ClientTls

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "ClientTls",
    "FieldViolation",
    "IndexReport",
    "IndexingFailed",
    "Progress",
    "SyncReport",
    "index_tree",
    "sync_tree",
]

_MODULES = ("client", "errors", "indexer", "report", "sync", "tls")


def __getattr__(name: str) -> object:
    """Import what is asked for, and no sooner: who uses the chunking alone needs no gRPC."""
    if name in __all__:
        for module in _MODULES:
            if hasattr(loaded := import_module(f"{__name__}.{module}"), name):
                return getattr(loaded, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
