-- name: lock_spaces
-- Lets nobody else change which space is active, nor write vectors, until the transaction ends.
SELECT pg_advisory_xact_lock(hashtext('duovec.spaces'))

-- name: get_active_space
-- Gets the active space, if there is one.
SELECT {columns} FROM spaces WHERE state = 'ACTIVE'

-- name: get_space
-- Gets a space by its key.
SELECT {columns} FROM spaces WHERE space_key = $1

-- name: list_spaces
-- Lists the spaces, oldest first.
SELECT {columns} FROM spaces ORDER BY space_key

-- name: get_held_space_state
-- Gets the state of a space, which stays so until the transaction ends.
SELECT hold_space_state($1)

-- name: get_active_space_key
-- Gets the key of the active space, as anybody.
SELECT active_space()

-- name: has_embeddings
-- Says whether a space holds any vector.
SELECT EXISTS (SELECT FROM embeddings WHERE space_key = $1)

-- name: add_space
-- Adds a space.
INSERT INTO spaces (fingerprint, manifest, state, activate_time)
VALUES ($1, $2, $3, CASE WHEN $3 = 'ACTIVE' THEN now() END)
RETURNING {columns}

-- name: delete_space
-- Deletes the row of a space.
DELETE FROM spaces WHERE space_key = $1

-- name: set_filling
-- Has a space filled, or not; a fill that begins has not failed yet, and nothing is verified before it ends.
UPDATE spaces
SET filling = $2, fill_rate = $3, fill_error = '', verification = CASE WHEN $2 THEN NULL ELSE verification END
WHERE space_key = $1 AND state IN ('BUILDING', 'STANDBY')
RETURNING {columns}

-- name: set_fill_error
-- Notes how the last batch went.
UPDATE spaces SET fill_error = $2 WHERE space_key = $1 AND fill_error <> $2

-- name: add_truncated
-- Counts chunks that were cut.
UPDATE spaces SET truncated_chunk_count = truncated_chunk_count + $2 WHERE space_key = $1

-- name: set_verification
-- Keeps what a verification found.
UPDATE spaces SET verification = $2 WHERE space_key = $1

-- name: deactivate_space
-- Keeps the active space for a roll-back, filled as before. By the clock: the transaction may have waited for its lock.
UPDATE spaces SET state = 'STANDBY', deactivate_time = clock_timestamp(), filling = true, fill_rate = NULL, fill_error = ''
WHERE state = 'ACTIVE'

-- name: activate_space
-- Makes a space the active one.
UPDATE spaces SET state = 'ACTIVE', activate_time = now(), deactivate_time = NULL, filling = false, fill_error = ''
WHERE space_key = $1
RETURNING {columns}

-- name: get_rollback_target
-- Gets the space that was active before.
SELECT space_key FROM spaces WHERE state = 'STANDBY' ORDER BY deactivate_time DESC LIMIT 1

-- name: begin_drop
-- Marks a space whose vectors are about to go.
UPDATE spaces SET state = 'DROPPING', filling = false WHERE space_key = $1

-- name: has_partition
-- Says whether a table of a space's vectors is attached (true), only there (false), or missing (null).
SELECT relispartition FROM pg_class WHERE oid = to_regclass(format('embeddings_s%s', $1::integer))

-- name: create_partition
-- Creates the table of a space's vectors; {space_key} is put in by the store, since DDL takes no parameters. A table made
-- as a partition at once would make all searches wait for its lock.
CREATE TABLE IF NOT EXISTS embeddings_s{space_key} (LIKE embeddings INCLUDING ALL)

-- name: attach_partition
-- Makes it a partition.
ALTER TABLE embeddings ATTACH PARTITION embeddings_s{space_key} FOR VALUES IN ({space_key})

-- name: detach_partition
-- Ends that, while searches go on.
ALTER TABLE embeddings DETACH PARTITION embeddings_s{space_key} CONCURRENTLY

-- name: finalize_detach
-- Ends a detachment that was broken off.
ALTER TABLE embeddings DETACH PARTITION embeddings_s{space_key} FINALIZE

-- name: is_detach_pending
-- Says whether a detachment was broken off.
SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass(format('embeddings_s%s', $1::integer))

-- name: lock_for_drop
-- Locks what dropping a table of vectors locks, since it refers to both, in the order that others lock: a space is looked
-- at before chunks are. Without it the drop and a deletion of chunks wait for each other.
LOCK TABLE spaces, chunks IN ACCESS EXCLUSIVE MODE

-- name: is_other_detach_pending
-- Says whether the detachment of another space's table was broken off: PostgreSQL has no second one before its end.
SELECT EXISTS (
    SELECT FROM pg_inherits
    WHERE inhparent = 'embeddings'::regclass AND inhdetachpending
      AND inhrelid IS DISTINCT FROM to_regclass(format('embeddings_s%s', $1::integer))
)

-- name: drop_partition
-- Drops the table of a space's vectors.
DROP TABLE IF EXISTS embeddings_s{space_key}

-- name: store_vectors_inline
-- Keeps a space's vectors out of TOAST: one fits a page, and an exact scan reads it without a second lookup.
ALTER TABLE embeddings_s{space_key} ALTER COLUMN embedding SET STORAGE PLAIN

-- name: is_index_valid
-- Says whether an index of a space ("hnsw" or "binary") is complete (true), broken off (false), or missing (null).
SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(format('embeddings_s%s_%s', $1::integer, $2::text))

-- name: count_vectors
-- Counts the vectors of a space, and those of the codebase that has most of them.
SELECT coalesce(sum(n), 0)::bigint AS total, coalesce(max(n), 0) AS largest
FROM (SELECT count(*) AS n FROM embeddings WHERE space_key = $1 GROUP BY codebase_key) counted

-- name: try_lock_hnsw_build
-- Lets one gateway at a time build a space's HNSW index; held by the session.
SELECT pg_try_advisory_lock(hashtext('duovec.hnsw'), $1)

-- name: unlock_hnsw_build
-- Ends what try_lock_hnsw_build began.
SELECT pg_advisory_unlock(hashtext('duovec.hnsw'), $1)

-- name: drop_hnsw_index
-- Drops the HNSW index of a space, or what a build that was broken off has left of it.
DROP INDEX CONCURRENTLY IF EXISTS embeddings_s{space_key}_hnsw

-- name: drop_binary_index
-- As drop_hnsw_index, for the index over signs.
DROP INDEX CONCURRENTLY IF EXISTS embeddings_s{space_key}_binary

-- name: allow_memory
-- Gives the session so many megabytes for building an index, where it has less. The pool takes them back.
SELECT set_config('maintenance_work_mem', $1::integer || 'MB', false)
WHERE $1::integer > pg_size_bytes(current_setting('maintenance_work_mem')) / 1024 / 1024

-- name: create_hnsw_index
-- Creates the HNSW index of a space while it is searched and written to.
CREATE INDEX CONCURRENTLY embeddings_s{space_key}_hnsw
    ON embeddings_s{space_key} USING hnsw (embedding halfvec_cosine_ops)

-- name: create_binary_index
-- Creates the HNSW index over the signs of a space's vectors: a sixteenth of their size.
CREATE INDEX CONCURRENTLY embeddings_s{space_key}_binary
    ON embeddings_s{space_key} USING hnsw ((binary_quantize(embedding)::bit(2560)) bit_hamming_ops)
    WITH (m = 24, ef_construction = 200)

-- name: tune_vacuum
-- Has autovacuum follow inserts closely: counting chunks reads only the index where it has been.
ALTER TABLE embeddings_s{space_key} SET (autovacuum_vacuum_insert_scale_factor = 0.02)

-- name: vacuum_partition
-- Does at once what autovacuum would do later, so that the first searches by a new index count and plan well.
VACUUM (ANALYZE) embeddings_s{space_key}

-- name: idle_time
-- Says how long ago another space took the place of one, seconds; null where that never happened.
SELECT extract(epoch FROM now() - deactivate_time)::double precision FROM spaces WHERE space_key = $1

-- name: try_lock_fill
-- Lets one gateway at a time fill a space; held by the session.
SELECT pg_try_advisory_lock(hashtext('duovec.fill'), $1)

-- name: unlock_fill
-- Ends what try_lock_fill began.
SELECT pg_advisory_unlock(hashtext('duovec.fill'), $1)
