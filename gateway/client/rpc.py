"""What the client knows of an RPC before it is called."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

Reply = TypeVar("Reply", bound=Message)
Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class Rpc(Generic[Reply]):
    """A method of a service.

    Attributes:
        name: As `package.Service/Method`.
        reply: The class of its replies.
        repeatable: Whether a call that failed may be made again: it only reads, or twice is as good as once.
    """

    name: str
    reply: type[Reply]
    repeatable: bool = True
