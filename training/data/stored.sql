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

-- name: list_codebases_of
-- Lists the codebases of chunks with these chunks, and how many vectors each has in a space.
SELECT e.codebase_key, array_agg(e.chunk_id ORDER BY e.chunk_id) AS chunk_ids, (
           SELECT count(*) FROM embeddings o WHERE o.space_key = $2::integer AND o.codebase_key = e.codebase_key
       ) AS vector_count
FROM embeddings e
WHERE e.space_key = $2::integer AND e.chunk_id = ANY($1::bigint[])
GROUP BY e.codebase_key
ORDER BY e.codebase_key

-- name: find_index
-- Finds which complete index a space has: over whole vectors (hnsw) or over their signs (binary).
SELECT kind FROM unnest(ARRAY['hnsw', 'binary']) AS known (kind)
JOIN pg_index ON indexrelid = to_regclass(format('embeddings_s%s_%s', $1::integer, kind))
WHERE indisvalid

-- name: ask_index
-- Has the rest of the transaction answered by an index, as the gateway asks it.
SELECT set_config('hnsw.ef_search', '200', true), set_config('hnsw.iterative_scan', 'strict_order', true),
       set_config('hnsw.max_scan_tuples', '100000', true), set_config('plan_cache_mode', 'force_custom_plan', true),
       set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true)

-- name: compare_all
-- Ends what ask_index began.
SELECT set_config('enable_sort', 'on', true), set_config('enable_seqscan', 'on', true)

-- name: list_neighbours
-- Lists for each chunk of a codebase the nearest in it that are farther than a distance, nearest first.
SELECT asked.chunk_id, near.chunk_id AS neighbour_id
FROM unnest($1::bigint[]) AS asked (chunk_id)
JOIN embeddings e ON e.chunk_id = asked.chunk_id AND e.space_key = $2::integer
CROSS JOIN LATERAL (
    SELECT o.chunk_id, o.embedding <=> e.embedding AS distance
    FROM ({nearest}) o
    ORDER BY distance
    LIMIT $4::integer
) near
WHERE near.distance > $5::float8
ORDER BY asked.chunk_id, near.distance, near.chunk_id

-- name: nearest_exact
-- All of them.
SELECT chunk_id, embedding FROM embeddings WHERE space_key = $2::integer AND codebase_key = $3::bigint OFFSET 0

-- name: nearest_hnsw
-- What the index over whole vectors gives.
SELECT chunk_id, embedding FROM embeddings WHERE space_key = $2::integer AND codebase_key = $3::bigint
ORDER BY embedding <=> e.embedding LIMIT $4::integer

-- name: nearest_binary
-- What the index over signs gives, which ranks coarsely: five candidates for each that is wanted.
SELECT chunk_id, embedding FROM embeddings WHERE space_key = $2::integer AND codebase_key = $3::bigint
ORDER BY binary_quantize(embedding)::bit(2560) <~> binary_quantize(e.embedding)::bit(2560) LIMIT 5 * $4::integer
