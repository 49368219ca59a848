-- name: become_caller
-- Makes the rest of the transaction a principal's, so that row-level security shows what that principal may read.
SELECT set_config('duovec.principal_key', principal_key::text, true),
       set_config('role', CASE WHEN is_admin THEN 'duovec_admin' ELSE 'duovec_caller' END, true)
FROM principals WHERE principal_id = $1

-- name: become_system
-- Ends what become_caller began.
SELECT set_config('duovec.principal_key', '', true), set_config('role', 'none', true)

-- name: find_codebases
-- Finds the codebases that the caller may read, all or some by name.
SELECT codebase_key, codebase_id FROM codebases
WHERE cardinality($1::text[]) = 0 OR codebase_id = ANY($1::text[])
ORDER BY codebase_id

-- name: list_chunks
-- Lists the chunks of a codebase, of every file the newest version, in the order of their lines.
SELECT c.chunk_id, c.path, c.language, c.symbol, c.kind, c.start_line, c.end_line, c.content
FROM chunks c
JOIN (
    SELECT DISTINCT ON (path) path, file_sha256 FROM chunks WHERE codebase_key = $1 ORDER BY path, chunk_id DESC
) newest USING (path, file_sha256)
WHERE c.codebase_key = $1
ORDER BY c.path, c.ordinal

-- name: list_feedback
-- Lists what was said of hits, by everyone or by one principal; the text that was shown is stored still.
SELECT f.search_id::text AS search_id, f.query_kind, f.query_text, f.chunk_id, f.useful
FROM feedback_examples f JOIN principals p USING (principal_key)
WHERE f.codebase_key = ANY($1::bigint[]) AND f.useful IS NOT NULL AND f.query_text IS NOT NULL
  AND ($2::text IS NULL OR p.principal_id = $2::text)
ORDER BY f.search_time, f.search_id, f.rank

-- name: get_active_space
-- Gets the space that is searched now.
SELECT space_key FROM spaces WHERE state = 'ACTIVE'

-- name: list_neighbours
-- Lists for each chunk the nearest in its codebase that are farther than a distance, nearest first.
SELECT asked.chunk_id, near.chunk_id AS neighbour_id
FROM unnest($1::bigint[]) AS asked (chunk_id)
JOIN embeddings e ON e.chunk_id = asked.chunk_id AND e.space_key = $2::integer
CROSS JOIN LATERAL (
    SELECT o.chunk_id, o.embedding <=> e.embedding AS distance
    FROM embeddings o
    WHERE o.space_key = $2::integer AND o.codebase_key = e.codebase_key
    ORDER BY o.embedding <=> e.embedding
    LIMIT $3::integer
) near
WHERE near.distance > $4::float8
ORDER BY asked.chunk_id, near.distance, near.chunk_id
