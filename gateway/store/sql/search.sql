-- name: count_searchable
-- Counts a codebase's chunks with and without a vector of the space, and looks for the space's HNSW index.
SELECT embedded.n AS searched_chunk_count,
       greatest(total.n - embedded.n, 0) AS pending_chunk_count,
       EXISTS (
           SELECT FROM pg_index
           WHERE indexrelid = to_regclass(format('embeddings_s%s_hnsw', $2::integer)) AND indisvalid
       ) AS has_hnsw_index
FROM (SELECT count(*) AS n FROM chunks WHERE codebase_key = $1) total,
     (SELECT count(*) AS n FROM embeddings WHERE space_key = $2 AND codebase_key = $1) embedded

-- name: configure_search
-- Sets, for this transaction, the server's own deadline and how far an HNSW scan goes.
SELECT set_config('statement_timeout', $1, true),
       set_config('plan_cache_mode', 'force_custom_plan', true),
       set_config('hnsw.ef_search', $2, true),
       set_config('hnsw.iterative_scan', 'strict_order', true),
       set_config('hnsw.max_scan_tuples', $3, true)

-- name: prefer_hnsw
-- Makes the planner take the HNSW index, for this transaction, where it would rather compare and sort.
SELECT set_config('enable_sort', 'off', true)

-- name: search_exact
-- Compares every vector of a codebase. The "+ 0" keeps the planner from answering by the HNSW index.
WITH nearest AS MATERIALIZED (
    SELECT chunk_id, (embedding <=> $3) + 0 AS distance
    FROM embeddings
    WHERE space_key = $2 AND codebase_key = $1
    ORDER BY distance, chunk_id
    LIMIT $4
)
SELECT 1 - n.distance AS score, c.*
FROM nearest n JOIN chunks c USING (chunk_id)
ORDER BY n.distance, chunk_id

-- name: search_hnsw
-- Finds nearest vectors by the HNSW index; rows of other codebases are filtered while it goes on scanning.
WITH nearest AS MATERIALIZED (
    SELECT chunk_id, embedding <=> $3 AS distance
    FROM embeddings
    WHERE space_key = $2 AND codebase_key = $1
    ORDER BY embedding <=> $3
    LIMIT $4
)
SELECT 1 - n.distance AS score, c.*
FROM nearest n JOIN chunks c USING (chunk_id)
ORDER BY n.distance, chunk_id
