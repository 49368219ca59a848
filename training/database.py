"""The gateway's database as training reads and writes it: named queries, and what its failures mean."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

import asyncpg

from training.errors import TrainingError

CONNECT_TIMEOUT_S = 10.0
# A server that is gone, going down, coming up or full; whose disk fails; that takes no writes for now; or that gave way
# to another transaction.
_AWAY = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
)
# What no waiting mends: wrong credentials, no such database, an address or a value that is none.
_REFUSALS = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    ValueError,
)


class DatabaseAway(Exception):
    """The database cannot be reached, or cannot do its work; it may come back."""


def load_queries(package: str, name: str) -> dict[str, str]:
    """The named queries of a file: a `-- name:` line, a line that says its purpose, the SQL."""
    text = (files(package) / name).read_text(encoding="utf-8")
    pattern = r"^-- name: (?P<name>\w+)\n-- .+\n(?P<sql>(?:(?!^-- name:).*\n?)*)"
    return {match["name"]: match["sql"].strip() for match in re.finditer(pattern, text, re.MULTILINE)}


def without_password(url: str) -> str:
    """A database's address, as it may be shown."""
    return re.sub(r"//[^@/]*@", "//", url)


@contextmanager
def translate_failures(url: str) -> Iterator[None]:
    """Raise training's errors in place of asyncpg's, with the database's address and without its password.

    Raises:
        DatabaseAway: It may be asked again.
        TrainingError: It is not a gateway's, it refuses, or it was asked for something that it cannot do.
    """
    where = without_password(url)
    try:
        yield
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as exc:
        raise TrainingError(f"{where} lacks a table ({exc}); start this version's gateway on it once") from exc
    except _REFUSALS as exc:  # asyncpg's error for a value that does not encode is an InterfaceError, too
        raise TrainingError(f"the database {where} refuses: {exc}") from exc
    except _AWAY as exc:
        raise DatabaseAway(f"{where}: {str(exc) or type(exc).__name__}") from exc
    except asyncpg.PostgresError as exc:
        raise TrainingError(f"the database {where} cannot do what it was asked for: {exc}") from exc
