-- name: find
-- Finds the caller's vectors of texts; says which rows were not used for an hour.
SELECT text_sha256, vector, use_time < now() - interval '1 hour' AS is_use_time_old
FROM cached_embeddings
WHERE principal_key = (SELECT current_principal())
  AND space_key = (SELECT space_key_of($1))
  AND input_type = $2 AND text_sha256 = ANY($3::bytea[])

-- name: touch
-- Notes that rows are in use.
UPDATE cached_embeddings SET use_time = now()
WHERE principal_key = (SELECT current_principal())
  AND space_key = (SELECT space_key_of($1))
  AND input_type = $2 AND text_sha256 = ANY($3::bytea[]) AND use_time < now() - interval '1 hour'

-- name: insert
-- Adds the caller's vectors; those that are there stay. In one order, so that two that add the same do not deadlock.
INSERT INTO cached_embeddings (principal_key, space_key, input_type, text_sha256, vector)
SELECT (SELECT current_principal()), (SELECT space_key_of($1)), $2, sent.text_sha256, sent.vector
FROM unnest($3::bytea[], $4::bytea[]) AS sent (text_sha256, vector)
ORDER BY sent.text_sha256
ON CONFLICT DO NOTHING

-- name: try_lock_eviction
-- Lets one gateway at a time evict; released with the transaction.
SELECT pg_try_advisory_xact_lock(hashtext('duovec.cache'))

-- name: evict
-- Deletes the longest unused rows beyond a number.
WITH doomed AS (
    SELECT ctid FROM cached_embeddings ORDER BY use_time DESC OFFSET $1
)
DELETE FROM cached_embeddings USING doomed WHERE cached_embeddings.ctid = doomed.ctid
