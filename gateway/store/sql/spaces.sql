-- name: lock_spaces
-- Lets one gateway at a time decide which space is active; released with the transaction.
SELECT pg_advisory_xact_lock(hashtext('duovec.spaces'))

-- name: get_active_space
-- Gets the active space, if there is one.
SELECT space_key, fingerprint, manifest, state, create_time FROM spaces WHERE state = 'ACTIVE'

-- name: has_embeddings
-- Says whether a space holds any vector.
SELECT EXISTS (SELECT FROM embeddings WHERE space_key = $1)

-- name: retire_space
-- Takes a space out of service.
UPDATE spaces SET state = 'RETIRED' WHERE space_key = $1

-- name: activate_space
-- Adds a space as the active one, or brings a retired one back.
INSERT INTO spaces (fingerprint, manifest, state) VALUES ($1, $2, 'ACTIVE')
ON CONFLICT (fingerprint) DO UPDATE SET state = 'ACTIVE'
RETURNING space_key, fingerprint, manifest, state, create_time

-- name: create_partition
-- Creates the partition of a space; {space_key} is put in by the store, since DDL takes no parameters.
CREATE TABLE IF NOT EXISTS embeddings_s{space_key} PARTITION OF embeddings FOR VALUES IN ({space_key})

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

-- name: create_hnsw_index
-- Creates the HNSW index of a space while it is searched and written to.
CREATE INDEX CONCURRENTLY embeddings_s{space_key}_hnsw
    ON embeddings_s{space_key} USING hnsw (embedding halfvec_cosine_ops)

-- name: create_binary_index
-- Creates the HNSW index over the signs of a space's vectors: a sixteenth of their size.
CREATE INDEX CONCURRENTLY embeddings_s{space_key}_binary
    ON embeddings_s{space_key} USING hnsw ((binary_quantize(embedding)::bit(2560)) bit_hamming_ops)

-- name: tune_vacuum
-- Has autovacuum follow inserts closely: counting chunks reads only the index where it has been.
ALTER TABLE embeddings_s{space_key} SET (autovacuum_vacuum_insert_scale_factor = 0.02)

-- name: vacuum_partition
-- Does at once what autovacuum would do later, so that the first searches by a new index count and plan well.
VACUUM (ANALYZE) embeddings_s{space_key}
