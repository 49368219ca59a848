"""Large bodies: neither their parts nor their reading keep the event loop from everybody else."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

from gateway.errors import InvalidInput

# A body that is read or written in more than a millisecond or so has a thread of its own.
_LARGE_BYTES = 16 * 1024


async def maybe_in_thread(work: Callable[..., Any], *arguments: Any, size_bytes: int) -> Any:
    """Call a function, in a thread of its own where it is about many bytes."""
    return work(*arguments) if size_bytes < _LARGE_BYTES else await asyncio.to_thread(work, *arguments)


def refuse_many(body: bytes, marks: bytes, most: int) -> None:
    """Refuse JSON of too many parts before it is parsed, which holds the whole process for as long as it takes.

    Eight megabytes of empty lists are 2.7 million of them, and took a second.

    Args:
        body: The JSON, sound or not.
        marks: What begins or parts them, of `[`, `{` and `,`; in strings they do not count.
        most: Parts that any request of use has.

    Raises:
        InvalidInput: There are more.
    """
    if sum(body.count(mark) for mark in marks) <= most:
        return
    found = 0
    # Code has many of them, in strings. A string without an end goes to the body's: looked at once, whatever it holds.
    for match in re.finditer(rb'"(?:[^"\\]++|\\.)*+"?|[%b]' % re.escape(marks), body, re.DOTALL):
        found += body[match.start()] in marks
        if found > most:
            raise InvalidInput("body", f"has more than {most:,} of {' '.join(marks.decode())} outside of its strings")
