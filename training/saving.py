"""Writes by safetensors and torch, whose errors are the package's one error as well."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from export.disk import FREE_SPACE, writing
from export.errors import ExportError

_TORCH_WRITER = ("inline_container", "PytorchStreamWriter")


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """`writing` for what is saved by libraries: what the disk refuses them has words of their own, and no errno.

    Raises:
        ExportError: Names `path` or the file at fault, and says what to do.
    """
    try:
        with writing(path):
            yield
    except (SafetensorError, RuntimeError) as exc:
        if isinstance(exc, RuntimeError) and not any(one in str(exc) for one in _TORCH_WRITER):
            raise
        raise ExportError(f"cannot write {path}: {str(exc).splitlines()[0]}; {FREE_SPACE}") from exc
