"""Which account PostgreSQL runs as: it refuses to be root."""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import StartupError

# Tried in this order where this process is root.
_ACCOUNTS = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """A user and its primary group."""

    name: str
    uid: int
    gid: int


def choose_account(data_dir: Path) -> Account | None:
    """Choose the account for a data directory, and give it the directory if root owns that.

    Args:
        data_dir: May be missing; then its parent exists.

    Returns:
        The owner of the data directory, or else `postgres` or `nobody`; None when this process is not root and
        needs no other account.

    Raises:
        StartupError: There is no such account, or it may not enter a directory above `data_dir`.
    """
    if os.geteuid() != 0:
        return None
    owner_uid = data_dir.stat().st_uid if data_dir.exists() else 0
    account = _find_account(owner_uid)
    blocked = _first_closed_directory(data_dir.parent, account)
    if blocked is not None:
        raise StartupError(
            f"PostgreSQL does not run as root, and the account {account.name!r} may not enter {blocked}; "
            f"choose a data directory elsewhere (DUOVEC_DATA_DIR), or run `chmod o+x {blocked}`"
        )
    if data_dir.exists() and owner_uid == 0:
        for path in (data_dir, *data_dir.rglob("*")):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
    return account


def _find_account(owner_uid: int) -> Account:
    keys: tuple[int | str, ...] = (owner_uid,) if owner_uid != 0 else _ACCOUNTS
    for key in keys:
        try:
            entry = pwd.getpwuid(key) if isinstance(key, int) else pwd.getpwnam(key)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    if owner_uid != 0:
        return Account(str(owner_uid), owner_uid, owner_uid)
    raise StartupError(f"PostgreSQL does not run as root, and none of these accounts exists: {', '.join(_ACCOUNTS)}")


def _first_closed_directory(directory: Path, account: Account) -> Path | None:
    """Find the topmost directory on the way down that the account may not enter."""
    resolved = directory.resolve()
    for path in (*reversed(resolved.parents), resolved):
        status = path.stat()
        if status.st_uid == account.uid:
            required = stat.S_IXUSR
        elif status.st_gid == account.gid:
            required = stat.S_IXGRP
        else:
            required = stat.S_IXOTH
        if not status.st_mode & required:
            return path
    return None
