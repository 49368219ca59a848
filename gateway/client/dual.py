"""How each method is written once and is a method of both clients.

Whatever waits is written as a coroutine over a `Transport`. `AsyncClient` hands these coroutines out. `Client` runs
each to its end at once, which it can, because nothing in its own transport ever suspends: there they block.
"""

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from gateway.client.connection import Connection

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Blocking:
    """Marks what belongs to a client whose methods block."""


class Suspending:
    """Marks what belongs to a client whose methods are awaited."""


Mode = TypeVar("Mode", Blocking, Suspending)


class Part(Generic[Mode]):
    """A client, or a group of its methods."""

    _blocks = False

    def __init__(self, connection: Connection, *, blocks: bool) -> None:
        """Use the groups of a client, such as `Client.access`."""
        self._connection = connection
        self._blocks = blocks


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
        # Thrown where it waits, so that all that is open there is closed.
        coroutine.throw(TypeError("a blocking client was given something that has to be awaited"))
    except StopIteration as end:
        result: _T = end.value
        return result
    raise RuntimeError("the coroutine goes on waiting")


def iterate(source: AsyncGenerator[_T]) -> Generator[_T]:
    """Iterate over what never suspends; ends it when the caller does."""
    try:
        while True:
            try:
                item = run(source.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        run(source.aclose())


class dual(Generic[_P, _T]):  # noqa: N801 - a decorator
    """Makes a coroutine function a method of both clients."""

    def __init__(self, method: Callable[Concatenate[Any, _P], Coroutine[Any, Any, _T]]) -> None:
        """Decorate a method of a `Part`."""

        @functools.wraps(method)
        def blocking(self: Any, *args: _P.args, **kwargs: _P.kwargs) -> _T:
            return run(method(self, *args, **kwargs))

        self._suspending, self._blocking = method, blocking

    @overload
    def __get__(self, instance: Part[Blocking], owner: type) -> Callable[_P, _T]: ...
    @overload
    def __get__(self, instance: Part[Suspending], owner: type) -> Callable[_P, Coroutine[Any, Any, _T]]: ...
    @overload
    def __get__(self, instance: None, owner: type) -> Callable[Concatenate[Any, _P], Any]: ...
    def __get__(self, instance: Part[Any] | None, owner: type) -> Any:
        """Give the method as the client's kind has it."""
        return _bind(instance, owner, self._blocking, self._suspending)


class dual_iterator(Generic[_P, _T]):  # noqa: N801 - a decorator
    """Makes a function that gives an asynchronous generator a method of both clients."""

    def __init__(self, method: Callable[Concatenate[Any, _P], AsyncGenerator[_T]]) -> None:
        """Decorate a method of a `Part`."""

        @functools.wraps(method)
        def blocking(self: Any, *args: _P.args, **kwargs: _P.kwargs) -> Generator[_T]:
            return iterate(method(self, *args, **kwargs))

        self._suspending, self._blocking = method, blocking

    @overload
    def __get__(self, instance: Part[Blocking], owner: type) -> Callable[_P, Generator[_T]]: ...
    @overload
    def __get__(self, instance: Part[Suspending], owner: type) -> Callable[_P, AsyncGenerator[_T]]: ...
    @overload
    def __get__(self, instance: None, owner: type) -> Callable[Concatenate[Any, _P], Any]: ...
    def __get__(self, instance: Part[Any] | None, owner: type) -> Any:
        """Give the method as the client's kind has it."""
        return _bind(instance, owner, self._blocking, self._suspending)


def _bind(instance: Part[Any] | None, owner: type, blocking: Any, suspending: Any) -> Any:
    blocks = getattr(owner if instance is None else instance, "_blocks", False)
    return (blocking if blocks else suspending).__get__(instance, owner)
