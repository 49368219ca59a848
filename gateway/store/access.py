"""Rows of who may do what."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Role = Literal["READ", "WRITE", "OWNER"]
"""What a principal may do with a codebase; each allows what those before it do."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How much a principal may ask for; None stands for the service's default, 0 for no limit.

    Attributes:
        requests_per_s: Calls a second.
        tokens_per_minute: Tokens of both encoders together a minute.
    """

    requests_per_s: float | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class PrincipalRow:
    """Who may hold API keys.

    Attributes:
        principal_key: The database's own key.
        principal_id: The name that callers use.
        is_admin: May do everything, on every codebase.
    """

    principal_key: int
    principal_id: str
    display_name: str
    is_admin: bool
    create_time: datetime
    requests_per_s: float | None
    tokens_per_minute: int | None

    @property
    def quota(self) -> Quota:
        """How much it may ask for."""
        return Quota(self.requests_per_s, self.tokens_per_minute)


@dataclass(frozen=True, slots=True)
class ApiKeyRow:
    """An API key without its secret; None where it does not expire, or was not revoked."""

    key_id: str
    principal_id: str
    display_name: str
    create_time: datetime
    expire_time: datetime | None
    revoke_time: datetime | None


@dataclass(frozen=True, slots=True)
class GrantRow:
    """The role of a principal on one codebase."""

    principal_id: str
    role: Role
    create_time: datetime
