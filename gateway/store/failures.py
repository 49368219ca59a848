"""The store's edge: asyncpg's errors become the gateway's."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from gateway.errors import DatabaseUnavailable, DeadlineExceeded, NotFound, PermissionDenied, PrincipalNotFound

# What asyncpg raises when the server is gone, coming up, going down or full, when the connection was cut, and when the
# server takes none from us, as after a change of the password.
CONNECTION_FAILURES: tuple[type[Exception], ...] = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
# No room on the disk or in memory, a disk that fails, a server that takes no writes: it answers, and may again in full.
_AILING: tuple[type[Exception], ...] = (
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
)


@contextmanager
def translate_failures() -> Iterator[None]:
    """Raise the gateway's errors in place of asyncpg's. Errors that mean a fault of ours pass through.

    Raises:
        DeadlineExceeded: The client or the server ran into the time limit; the server dropped the work.
        DatabaseUnavailable: The server cannot be reached, is full or takes no writes, or ended the transaction for
            another's sake.
        NotFound: The codebase, or the principal, was deleted while it was written to.
        PermissionDenied: Row-level security refused a write that the gateway's own check had let pass, or had
            forgotten.
    """
    try:
        yield
    # TimeoutError is an OSError, so it comes first.
    except (TimeoutError, asyncpg.QueryCanceledError) as error:
        raise DeadlineExceeded("the deadline passed while the database worked") from error
    except CONNECTION_FAILURES as error:
        raise DatabaseUnavailable(f"PostgreSQL cannot be reached: {error or type(error).__name__}") from error
    except _AILING as error:
        raise DatabaseUnavailable(f"PostgreSQL cannot do its work now: {error}") from error
    except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError) as error:
        raise DatabaseUnavailable(f"PostgreSQL gave way to another transaction, try again: {error}") from error
    except asyncpg.InsufficientPrivilegeError as error:
        if "row-level security" not in str(error):
            raise
        raise PermissionDenied("the caller may not write this codebase") from error
    except asyncpg.ForeignKeyViolationError as error:
        if (error.constraint_name or "").endswith("_principal_key_fkey"):
            raise PrincipalNotFound("the principal was deleted meanwhile") from error
        raise NotFound(f"the codebase was deleted meanwhile: {error.detail}") from error
