-- name: lock_migrations
-- Lets one process at a time migrate; held by the session.
SELECT pg_advisory_lock(hashtext('duovec.migrations'))

-- name: create_table
-- Makes the record of what was applied.
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   char(64) NOT NULL,
    apply_time timestamptz NOT NULL DEFAULT now()
)

-- name: list_applied
-- Lists what was applied, oldest first.
SELECT version, name, checksum FROM schema_migrations ORDER BY version

-- name: record_applied
-- Records a migration.
INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)

-- name: forget_applied
-- Removes the record of a migration that was rolled back.
DELETE FROM schema_migrations WHERE version = $1

-- name: get_pgvector_version
-- Gets the version of pgvector in the database, or else the one that would be installed; null when neither.
SELECT coalesce(
    (SELECT extversion FROM pg_extension WHERE extname = 'vector'),
    (SELECT default_version FROM pg_available_extensions WHERE name = 'vector')
)
