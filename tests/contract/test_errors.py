"""The reasons that the gateway sends are those that the proto documents."""

import gateway.server  # noqa: F401 - its imports define every error that can be sent
from duovec.v1.error_reason_pb2 import ErrorReason
from gateway.errors import DuovecError

PREFIX = "ERROR_REASON_"


def error_classes(root: type[DuovecError]) -> list[type[DuovecError]]:
    """A class of error and all below it that `gateway.errors` defines."""
    below = [error for child in root.__subclasses__() for error in error_classes(child)]
    return [root, *below]


def test_every_reason_is_documented_and_every_documented_reason_is_sent() -> None:
    """A reason that only one side knows is one that nobody can handle."""
    sent = {error.reason for error in error_classes(DuovecError) if error.__module__ == "gateway.errors"}
    documented = {name.removeprefix(PREFIX) for name in ErrorReason.keys()}  # noqa: SIM118 - an enum wrapper, no dict
    assert sent == documented - {"UNSPECIFIED"}


def test_the_server_defines_no_reason_elsewhere() -> None:
    """A new reason belongs in `gateway.errors`; what ends a command on this machine is never sent."""
    others = {
        error
        for error in error_classes(DuovecError)
        if error.__module__ != "gateway.errors" and not error.__module__.startswith("gateway.local.")
    }
    assert [error.__qualname__ for error in others if "reason" in vars(error)] == []
