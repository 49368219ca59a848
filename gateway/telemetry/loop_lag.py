"""How late the event loop runs what is due: everything in it waits that long."""

import asyncio

from gateway.telemetry.histogram import Histogram

_PERIOD_S = 0.1
_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class LoopLag:
    """Looks ten times a second.

    Attributes:
        lateness: Seconds.
    """

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self.lateness = Histogram(_BOUNDS_S)

    async def run(self) -> None:
        """Look until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _PERIOD_S
            await asyncio.sleep(_PERIOD_S)
            self.lateness.observe(max(0.0, loop.time() - due))
