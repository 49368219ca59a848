-- name: create_codebase
-- Adds a codebase, whose owner the caller becomes; gives its key.
SELECT create_codebase($1, $2)

-- name: get_new_codebase
-- Gets a codebase that has no chunks yet.
SELECT codebase_key, codebase_id, display_name, create_time, 0::bigint AS chunk_count, 0::bigint AS pending_chunk_count
FROM codebases WHERE codebase_key = $1

-- name: get_codebase
-- Gets one codebase, counted in a space.
SELECT c.codebase_key, c.codebase_id, c.display_name, c.create_time,
       embedded.n AS chunk_count, greatest(total.n - embedded.n, 0) AS pending_chunk_count
FROM codebases c
CROSS JOIN LATERAL (SELECT count(*) AS n FROM chunks WHERE codebase_key = c.codebase_key) total
CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM embeddings WHERE space_key = $2 AND codebase_key = c.codebase_key
) embedded
WHERE c.codebase_id = $1

-- name: list_codebases
-- Lists codebases by id, after one, counted in a space.
SELECT c.codebase_key, c.codebase_id, c.display_name, c.create_time,
       embedded.n AS chunk_count, greatest(total.n - embedded.n, 0) AS pending_chunk_count
FROM (SELECT * FROM codebases WHERE codebase_id > $1 ORDER BY codebase_id LIMIT $3) c
CROSS JOIN LATERAL (SELECT count(*) AS n FROM chunks WHERE codebase_key = c.codebase_key) total
CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM embeddings WHERE space_key = $2 AND codebase_key = c.codebase_key
) embedded
ORDER BY c.codebase_id

-- name: refuse_writers
-- Waits for those who write into a codebase, and has others refused until the transaction ends (`hold_codebase`).
SELECT pg_advisory_xact_lock(hashtext('duovec.codebase'), ($1 % 2147483648)::integer)

-- name: lock_codebase
-- Keeps others from referring to a codebase until the transaction ends; gives its key.
SELECT codebase_key FROM codebases WHERE codebase_id = $1 FOR UPDATE

-- name: count_chunks
-- Counts a codebase's chunks.
SELECT count(*) FROM chunks WHERE codebase_key = $1

-- name: delete_codebase
-- Deletes a codebase; its chunks and vectors go with it by cascade.
DELETE FROM codebases WHERE codebase_key = $1

-- name: get_codebase_key
-- Gets the key of a codebase that is visible, and the role on it; who is no mere caller may do everything.
SELECT c.codebase_key,
       CASE WHEN current_user = 'duovec_caller' THEN (
           SELECT g.role FROM grants g WHERE g.codebase_key = c.codebase_key AND g.principal_key = current_principal()
       ) ELSE 'OWNER' END::text AS role
FROM codebases c WHERE c.codebase_id = $1

-- name: lock_revision
-- Waits for those who write into a codebase, and has other writers wait until the transaction ends (`hold_codebase`); false
-- where it is being deleted now, without waiting: writers would wait behind this one.
SELECT CASE WHEN pg_try_advisory_xact_lock_shared(hashtext('duovec.codebase'), ($1 % 2147483648)::integer)
            THEN pg_advisory_xact_lock(hashtext('duovec.revision'), ($1 % 2147483648)::integer) IS NOT NULL
            ELSE false END

-- name: get_revision_version
-- Gets the version of a codebase's revision, 0 for none.
SELECT coalesce((SELECT version FROM revisions WHERE codebase_key = $1), 0)

-- name: begin_update
-- Begins an update of a codebase, in place of the one before; gives its number.
INSERT INTO updates (codebase_key) VALUES ($1)
ON CONFLICT (codebase_key) DO UPDATE SET update_number = DEFAULT, undisturbed = true
RETURNING update_number

-- name: is_undisturbed
-- Tells whether an update is the last one of a codebase, and nobody else wrote since it began.
SELECT EXISTS (SELECT FROM updates WHERE codebase_key = $1 AND update_number = $2 AND undisturbed)

-- name: end_update
-- Has no update of a codebase pass for undisturbed any more.
UPDATE updates SET undisturbed = false WHERE codebase_key = $1 AND undisturbed

-- name: set_revision
-- Records a revision of a codebase, in place of the one before.
INSERT INTO revisions (codebase_key, commit_id, folder, branch, commit_time, modified) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (codebase_key) DO UPDATE
SET version = revisions.version + 1, commit_id = excluded.commit_id, folder = excluded.folder,
    branch = excluded.branch, commit_time = excluded.commit_time, modified = excluded.modified,
    record_time = excluded.record_time, outdated = false
RETURNING version, commit_id, folder, branch, commit_time, modified, record_time, outdated

-- name: find_recorded
-- Finds the revision of a codebase where it is this one, and nobody wrote since.
SELECT version, commit_id, folder, branch, commit_time, modified, record_time, outdated
FROM revisions
WHERE codebase_key = $1 AND NOT outdated
  AND (commit_id, folder, branch, commit_time, modified) IS NOT DISTINCT FROM ($2, $3, $4, $5, $6)

-- name: outdate_revision
-- Notes that the chunks of a codebase are not those of its revision any more, and that an update with another number is
-- not alone. The first who does has others wait for the end of its transaction; later ones find nothing to note.
WITH disturbed AS (
    UPDATE updates SET undisturbed = false WHERE codebase_key = $1 AND undisturbed AND update_number <> $2
)
UPDATE revisions SET outdated = true WHERE codebase_key = $1 AND NOT outdated

-- name: list_revisions
-- Lists the revisions of those codebases that are visible and have one.
SELECT codebase_key, version, commit_id, folder, branch, commit_time, modified, record_time, outdated
FROM revisions WHERE codebase_key = ANY($1::bigint[])
