"""A service and who answers for it, whichever door its calls come by."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor


@dataclass(frozen=True, slots=True)
class Service:
    """One service of the contract.

    Attributes:
        descriptor: What it offers.
        servicer: Has a method for each of its methods; none of them uses its context.
        add: The generated function that adds the servicer to a gRPC server.
    """

    descriptor: ServiceDescriptor
    servicer: Any
    add: Callable[[Any, Any], None]

    @property
    def name(self) -> str:
        """Such as `duovec.v1.SearchService`."""
        return self.descriptor.full_name
