"""Whether gateways of this event loop still write vectors into their cache, which replies do not wait for."""

import asyncio


def are_under_way() -> bool:
    """Until they are over, also what follows the commit, a text of theirs is answered from memory."""
    return any("WriteBehind" in repr(task.get_coro()) for task in asyncio.all_tasks())
