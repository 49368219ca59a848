"""The parts of the stack: the states that one goes through, and how one fails."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from gateway.errors import DuovecError
from gateway.local.log_file import tail
from gateway.local.process import describe_exit
from gateway.local.triton import Triton


class StackFailure(DuovecError):
    """A part of the stack exited although nobody asked it to, or does not answer.

    Attributes:
        part: Which one.
        log_tail: The last lines of its log.
    """

    def __init__(self, part: str, what: str, *, log_path: Path) -> None:
        super().__init__(f"{part} {what}; its log is {log_path}")
        self.part = part
        self.log_tail = tail(log_path, 20)


class PartState(StrEnum):
    """Where a part is in its life."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class PartEvent:
    """A part came into a state.

    Attributes:
        part: `models`, `postgres`, `triton`, `gateway`, and `gateway-2` and so on where there are several.
        state: The state it is in now.
        detail: What is worth telling, such as its address or why it failed.
        pid: Its process id once it is ready; None for `models`, which is no process.
    """

    part: str
    state: PartState
    detail: str = ""
    pid: int | None = None


class Part(Protocol):
    """What the stack does with a part."""

    @property
    def pid(self) -> int: ...
    async def start(self) -> None: ...
    async def wait(self) -> int: ...
    async def stop(self, *, grace_s: float = ...) -> None: ...


async def until_it_fails(part: Part) -> str:
    """What is wrong with a part, once something is: it died, or it is Triton and does not answer."""

    async def death() -> str:
        return f"died ({describe_exit(await part.wait())})"

    async def silence(triton: Triton) -> str:
        return f"does not answer ({await triton.wait_silent()})"

    watches = [asyncio.create_task(death())]
    if isinstance(part, Triton):
        watches.append(asyncio.create_task(silence(part)))
    try:
        await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
        return next(watch.result() for watch in watches if watch.done())
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
