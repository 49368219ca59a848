"""Lists that come page by page."""

from collections.abc import Callable, Iterator
from typing import Any


def pages(call: Callable[..., Any], method: Callable[..., Any], request: Any) -> Iterator[Any]:
    """Yield the replies to a request for the first page, and to those for the pages after it.

    Args:
        call: Makes a call of the client's, `Connection._call`.
        method: The method of a stub.
        request: Its request, whose `page_token` is set page by page.
    """
    while True:
        response = call(method, request)
        yield response
        if not response.next_page_token:
            return
        request.page_token = response.next_page_token
