"""Who a request comes from. Every transaction of a request begins by proving its key again."""

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.errors import AdminRequired, ApiKeyExpired, ApiKeyRevoked, Unauthenticated
from gateway.store.access import Quota
from gateway.store.api_key import ApiKey
from gateway.store.queries import load_queries

if TYPE_CHECKING:
    from gateway.store.pool import Connection

_QUERIES = load_queries("caller.sql")


@dataclass(frozen=True, slots=True)
class _Principal:
    """Whose key was proven, as the principal was then."""

    principal_key: int
    principal_id: str
    quota: Quota


_key: ContextVar[ApiKey] = ContextVar("duovec_api_key")
_principal: ContextVar[_Principal | None] = ContextVar("duovec_principal", default=None)
_peer: ContextVar[str] = ContextVar("duovec_peer", default="")
# Compared where there is no such key, so that this takes as long as where the secret is wrong.
_NOBODY = bytes(32)


def set_api_key(key: ApiKey, *, peer: str) -> None:
    """Let the store act with a key, in this task and the tasks that it starts.

    Each RPC runs in a task of its own, so that there is nothing to take back.

    Args:
        key: The key.
        peer: Where the call comes from, for the audit log.
    """
    _key.set(key)
    _peer.set(peer)
    _principal.set(None)


@contextmanager
def acting_with(key: ApiKey) -> Iterator[None]:
    """Let the store act with a key for the length of the block."""
    token = _key.set(key)
    principal_token = _principal.set(None)
    try:
        yield
    finally:
        _principal.reset(principal_token)
        _key.reset(token)


def current_key_id() -> str:
    """The id of the key that is acted with."""
    return _key.get().key_id


def current_principal_key() -> int | None:
    """The principal that the key belonged to when it was last proven in this task; None where none was."""
    principal = _principal.get()
    return None if principal is None else principal.principal_key


def current_principal_id() -> str | None:
    """The id of that principal; None where no key was proven in this task."""
    principal = _principal.get()
    return None if principal is None else principal.principal_id


def current_quota() -> Quota:
    """What that principal may ask for; the service's default where no key was proven in this task."""
    principal = _principal.get()
    return Quota() if principal is None else principal.quota


async def enter(connection: "Connection") -> None:
    """Give the running transaction the role and the principal of the key that is acted with.

    Args:
        connection: In a transaction that has done nothing yet; without one the role ends with the statement.

    Raises:
        Unauthenticated: There is no such key, or it is revoked or expired by now.
        RuntimeError: No key is acted with: a fault of ours, which must not read or write anything.
    """
    key = _key.get(None)
    if key is None:
        raise RuntimeError("the store was asked by nobody: act with a key, or take Database.as_system()")
    record = await connection.fetchrow(_QUERIES["enter"], key.key_id, _peer.get())
    stored_sha256: bytes = _NOBODY if record is None else record["secret_sha256"]
    if not hmac.compare_digest(stored_sha256, key.secret_sha256) or record is None:
        raise Unauthenticated("the API key is not one of this service's; ask its administrator for one")
    if record["revoked"]:
        raise ApiKeyRevoked(f"the API key {key.key_id} was revoked; use another")
    if record["expired"]:
        raise ApiKeyExpired(f"the API key {key.key_id} expired at {record['expire_time']:%Y-%m-%d %H:%M} UTC")
    quota = Quota(record["requests_per_s"], record["tokens_per_minute"])
    _principal.set(_Principal(record["principal_key"], record["principal_id"], quota))


async def act_as_system(connection: "Connection") -> None:
    """Give the rest of a transaction that `enter` began to the service itself, which may do everything.

    Raises:
        AdminRequired: The caller is no administrator.
    """
    if await connection.fetchval(_QUERIES["act_as_system"]) is None:
        raise AdminRequired(f"only an administrator may do this, and {current_principal_id()!r} is none")


async def name_actor(connection: "Connection") -> None:
    """Tell the audit log for whom the system makes the changes of the running transaction; for nobody: for itself."""
    principal_id = current_principal_id()
    if principal_id is not None:
        await connection.execute(_QUERIES["name_actor"], f"{principal_id} {current_key_id()} {_peer.get()}")
