import pytest

from gateway.errors import StartupError
from gateway.store.migrations import check_pgvector_version, load_migrations


def test_migrations_are_numbered_without_gaps_and_can_be_undone() -> None:
    migrations = load_migrations()
    assert [migration.version for migration in migrations] == list(range(1, len(migrations) + 1))
    assert all(migration.down_sql.strip() for migration in migrations)


@pytest.mark.parametrize("version", ["0.8.4", "0.8.5", "0.10.0", "1.0"])
def test_a_recent_pgvector_is_accepted(version: str) -> None:
    check_pgvector_version(version)


@pytest.mark.parametrize(
    ("version", "message"), [("0.8.3", "0.8.3 is too old, 0.8.4 or newer"), ("0.7", "0.7 is too old"), (None, "has no")]
)
def test_an_old_or_missing_pgvector_is_refused(version: str | None, message: str) -> None:
    with pytest.raises(StartupError, match=message):
        check_pgvector_version(version)
