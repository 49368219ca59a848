"""Where the Tritons are: addresses, and names that stand for several of them."""

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Gives the addresses of a name, without a port; raises OSError where it has none."""


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name by the system's resolver; those of IPv6 only where there are no others."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    by_family: dict[int, set[str]] = {}
    for family, _, _, _, address in found:
        by_family.setdefault(family, set()).add(str(address[0]))
    return sorted(by_family.get(socket.AF_INET) or by_family.get(socket.AF_INET6, set()))


class Addresses:
    """What a setting such as `one:8001,two:8001` stands for at the moment.

    Attributes:
        unknown: Why the last look failed; empty where it did not.
    """

    def __init__(self, urls: str, resolve: Resolve = resolve) -> None:
        """Nothing is looked up yet.

        Args:
            urls: `host:port`, or several, separated by commas. A name stands for every address that it has.
            resolve: Finds the addresses of names.
        """
        self._places = [url.strip() for url in urls.split(",") if url.strip()]
        self._resolve = resolve
        self._known: dict[str, set[str]] = {}
        self._failed: set[str] = set()
        self.unknown = "none was looked up yet"

    async def look(self) -> set[str]:
        """Look all names up.

        Returns:
            `address:port` of each; where a name cannot be looked up, those that it had the last time.
        """
        failures: dict[str, str] = {}
        for place in self._places:
            try:
                self._known[place] = await self._of(place)
            except (OSError, UnicodeError) as exc:  # the second of what is no name at all, as `a..b`
                failures[place] = getattr(exc, "strerror", None) or str(exc)
                if place not in self._failed:  # once, not every few seconds
                    logger.warning("Triton's address %s cannot be looked up: %s", place, failures[place])
        self._failed = set(failures)
        self.unknown = "; ".join(f"{place}: {why}" for place, why in failures.items())
        return set().union(*self._known.values())

    async def _of(self, place: str) -> set[str]:
        host, _, port = place.rpartition(":")
        if not host or not port.isdigit() or host == "localhost" or _is_number(host):
            return {place}  # gRPC knows what to do with it
        return {
            f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            for address in await self._resolve(host, int(port))
        }


def _is_number(host: str) -> bool:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host.strip("[]"))
        return True
    return False
