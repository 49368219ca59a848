"""What depends on the embedding cache, on machines where it may be late: its look-up, or the write before."""

from collections.abc import Callable
from typing import TypeVar

from gateway.client.client import Client

T = TypeVar("T")


def with_steady_cache(client: Client, work: Callable[[int], T]) -> T:
    """Do some work again until it found the cache in time, and give what came out.

    A look-up that takes longer than a forward pass is given up, and the cache then left alone for a second: texts are
    embedded again, which is right, in other batches, whose vectors differ in their last bits.

    Args:
        client: An administrator's, to ask for the cache's failures.
        work: Is given how often it was done before, for texts that must be new.
    """

    def failure_count() -> int:
        cache = client.status().cache
        return cache.read_failure_count + cache.write_failure_count

    attempt = 0
    while True:
        before = failure_count()
        found = work(attempt)
        if failure_count() == before:
            return found
        attempt += 1
