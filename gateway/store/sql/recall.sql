-- name: try_lock_watch
-- Lets one gateway at a time watch recall; held by the session.
SELECT pg_try_advisory_lock(hashtext('duovec.recall'))

-- name: unlock_watch
-- Ends what try_lock_watch began.
SELECT pg_advisory_unlock(hashtext('duovec.recall'))

-- name: list_due
-- Lists the codebases that are searched by the index of a space and were not checked for a while, or have changed by a
-- fifth, or got another index since.
SELECT counted.codebase_key, counted.n AS vector_count
FROM (
    SELECT codebase_key, count(*) AS n FROM embeddings WHERE space_key = $1 GROUP BY codebase_key HAVING count(*) > $2
) counted
LEFT JOIN recall_checks r ON r.space_key = $1 AND r.codebase_key = counted.codebase_key
WHERE r.check_time IS NULL OR r.check_time < now() - $3::interval OR r.method <> $4
   OR abs(counted.n - r.vector_count) * 5 > r.vector_count
ORDER BY r.check_time NULLS FIRST, counted.codebase_key

-- name: sample_queries
-- Takes some of the latest vectors that a codebase was searched with, each text once.
SELECT query_vector FROM (
    SELECT DISTINCT ON (latest.query_text) latest.query_vector FROM (
        SELECT s.query_text, s.query_vector
        FROM searched_codebases r
        JOIN searches s USING (search_key)
        JOIN spaces p ON p.fingerprint = s.space
        WHERE r.codebase_key = $2 AND p.space_key = $1 AND s.query_vector IS NOT NULL
        ORDER BY s.search_key DESC
        LIMIT 500
    ) latest
) texts
ORDER BY random()
LIMIT $3

-- name: sample_vectors
-- Takes some of a codebase's vectors. The ids are picked from an index; only those picked are read.
SELECT e.chunk_id, e.embedding
FROM (
    SELECT chunk_id FROM embeddings WHERE space_key = $1 AND codebase_key = $2 ORDER BY random() LIMIT $3
) picked
JOIN embeddings e ON e.chunk_id = picked.chunk_id AND e.space_key = $1

-- name: store_check
-- Keeps what was found of a codebase, in place of what was found before.
INSERT INTO recall_checks (space_key, codebase_key, method, ef, least_ef, index_suffices, query_count, mean_recall,
                           minimum_recall, target_recall, vector_count)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (space_key, codebase_key) DO UPDATE
SET check_time = now(), method = excluded.method, ef = excluded.ef, least_ef = excluded.least_ef,
    index_suffices = excluded.index_suffices, query_count = excluded.query_count, mean_recall = excluded.mean_recall,
    minimum_recall = excluded.minimum_recall, target_recall = excluded.target_recall,
    vector_count = excluded.vector_count

-- name: list_checks
-- Lists what was found in a space, by codebase.
SELECT c.codebase_id, r.check_time, r.method, r.ef, r.least_ef, r.index_suffices, r.query_count, r.mean_recall,
       r.minimum_recall, r.target_recall, r.vector_count
FROM recall_checks r JOIN codebases c USING (codebase_key)
WHERE r.space_key = $1
ORDER BY c.codebase_id
