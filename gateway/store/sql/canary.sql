-- name: insert_canary
-- Put one chunk with its vector into a codebase of its own; the caller's transaction is rolled back.
WITH codebase AS (
    INSERT INTO codebases (codebase_id, display_name) VALUES ($1, $1) RETURNING codebase_key
), chunk AS (
    INSERT INTO chunks (
        codebase_key, path, language, symbol, kind, start_line, end_line, content, content_sha256, file_sha256,
        ordinal, file_chunk_count
    )
    SELECT codebase_key, 'canary', 'text', '', 'text', 1, 1, $2, sha256($2::text::bytea), sha256($2::text::bytea), 0, 1
    FROM codebase
    RETURNING chunk_id, codebase_key
)
INSERT INTO embeddings (space_key, chunk_id, codebase_key, embedding)
SELECT $3, chunk_id, codebase_key, $4 FROM chunk
RETURNING chunk_id, codebase_key

-- name: find_nearest
-- Compares every vector of the canary's codebase with its query.
SELECT chunk_id, 1 - (embedding <=> $3) AS score
FROM embeddings WHERE codebase_key = $1 AND space_key = $2
ORDER BY score DESC
LIMIT 1
