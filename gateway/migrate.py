"""Brings the database to the schema of this version and ends, so that gateways that start later find it there.

Usage: python -m gateway.migrate   (settings as for gateway.server)
"""

import asyncio
import logging
import sys

from gateway.errors import DuovecError
from gateway.settings import Settings
from gateway.store.migrations import migrate

logger = logging.getLogger(__name__)

# A migration may rewrite tables of many millions of rows.
_TIMEOUT_S = 6 * 3600.0


def main() -> None:
    """Entry point: exit code 1 with one line when the database cannot be migrated."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        applied = asyncio.run(migrate(Settings.from_environment().database_url, timeout_s=_TIMEOUT_S))
    except DuovecError as exc:
        sys.exit(f"error: {exc}")
    logger.info("applied migrations: %s", ", ".join(map(str, applied)) or "none, the schema is of this version")


if __name__ == "__main__":
    main()
