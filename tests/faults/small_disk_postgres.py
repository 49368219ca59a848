"""PostgreSQL whose tables lie on a small file system of their own, in a mount namespace that ends with this process.

`unshare --mount python small_disk_postgres.py ROOT SIZE`: prints the URL of a database whose tables are on it, and
stops when its stdin is closed. ROOT/small is the file system; from outside it is /proc/PID/root/ROOT/small.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import asyncpg

from gateway.local.account import choose_account
from gateway.local.postgres import Postgres


async def main(root: Path) -> None:
    """See the module's docstring."""
    small = root / "small"
    tables = small / "tables"
    tables.mkdir(mode=0o700)
    postgres = Postgres(root / "postgres", log_path=root / "postgres.log")
    await postgres.start()
    account = choose_account(root / "postgres")
    if account is not None:
        os.chown(tables, account.uid, account.gid)
    connection = await asyncpg.connect(postgres.url)
    await connection.execute(f"CREATE TABLESPACE small LOCATION '{tables}'")
    await connection.execute("CREATE DATABASE cramped TABLESPACE small")
    await connection.close()
    sys.stdout.write(postgres.url.rsplit("/", 1)[0] + "/cramped\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await postgres.stop()


if __name__ == "__main__":
    root, size = Path(sys.argv[1]), sys.argv[2]
    (root / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(root / "small")], check=True)
    asyncio.run(main(root))
