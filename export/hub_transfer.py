"""Bytes from the hub: every call has a deadline, what may pass is tried again, what arrived is not fetched twice."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub.errors import HfHubHTTPError

# Public, though not marked so for type checkers.
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

T = TypeVar("T")

# Overload and restarts pass; 408 is the server's own timeout.
_PASSING_STATUS = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Patience:
    """How long to go on with a hub that does not answer.

    Attributes:
        tries: Tries in a row without a new byte before the download fails.
        first_wait_s: Pause after the first failure, seconds; it doubles with every further one.
        longest_wait_s: Longest pause, whatever the server asks for, seconds.
        stall_s: Silence after which a connection counts as broken, seconds.
    """

    tries: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 30.0
    stall_s: float = 30.0

    def wait_s(self, failures: int, exc: Exception) -> float:
        """Pause after this many failures in a row; what the server asks for in Retry-After comes first."""
        wait_s: float = self.first_wait_s * 2 ** (failures - 1)
        if isinstance(exc, HfHubHTTPError):
            asked = exc.response.headers.get("Retry-After", "")
            wait_s = float(asked) if asked.isdecimal() else wait_s
        return min(wait_s, self.longest_wait_s)


DEFAULT_PATIENCE = Patience()


def patiently(call: Callable[[], T], patience: Patience, progress: Callable[[], int] = lambda: 0) -> T:
    """Call until it succeeds.

    Args:
        call: What to do.
        patience: How often and how long.
        progress: A number that grows when a failed call got further; the count of tries starts anew then.

    Raises:
        httpx2.TransportError: The last try found no connection, or lost it.
        HfHubHTTPError: The hub refused, or still failed at the last try.
    """
    failures = 0
    while True:
        before = progress()
        try:
            return call()
        except (httpx2.TransportError, HfHubHTTPError) as exc:
            if isinstance(exc, HfHubHTTPError) and exc.response.status_code not in _PASSING_STATUS:
                raise
            failures = 1 if progress() > before else failures + 1
            if failures >= patience.tries:
                raise
            time.sleep(patience.wait_s(failures, exc))


def fetch(url: str, path: Path, size: int, patience: Patience, on_size: Callable[[int], None]) -> None:
    """Download a file, going on from what an earlier run left in `path`.

    Args:
        url: Its address.
        path: Where its bytes go, appended to what is there.
        size: Its size, bytes.
        patience: How often and how long to try.
        on_size: Told how many bytes `path` holds, as it grows.

    Raises:
        httpx2.TransportError: The connection failed too often in a row.
        HfHubHTTPError: The hub refused.
        OSError: The disk did.
    """

    def present() -> int:
        return path.stat().st_size if path.exists() else 0

    if present() > size:
        path.unlink()
    path.touch()
    while present() < size:
        patiently(lambda: _append(url, path, size, patience, on_size), patience, present)


def _append(url: str, path: Path, size: int, patience: Patience, on_size: Callable[[int], None]) -> None:
    timeout = httpx2.Timeout(patience.stall_s, connect=min(10.0, patience.stall_s))
    with path.open("ab") as file:
        have = file.tell()
        # No compression: a range counts the bytes of the file.
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
            if response.is_error:
                response.read()
            hf_raise_for_status(response)
            if have and response.status_code != httpx2.codes.PARTIAL_CONTENT:
                file.truncate(0)  # the server sends the file from its beginning
            # As they come: what a chunk of a given size holds back is lost with the connection.
            for chunk in response.iter_bytes():
                file.write(chunk)
                on_size(file.tell())
        have = file.tell()
    if have > size:
        path.unlink()
        raise httpx2.RemoteProtocolError(f"{url} sent more than the {size} bytes that the hub states")
    if have < size:
        raise httpx2.RemoteProtocolError(f"{url} ended after {have} of {size} bytes")
