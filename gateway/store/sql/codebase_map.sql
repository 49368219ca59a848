-- name: count_embedded
-- Counts the chunks of a codebase with a vector in a space.
SELECT count(*) FROM embeddings WHERE codebase_key = $1 AND space_key = $2

-- name: sample_embedded
-- Gets chunks of a codebase with their vectors: those of the least hashes, which are the same each time.
SELECT c.chunk_id, c.path, c.language, c.symbol, c.kind, c.start_line, c.end_line, e.embedding
FROM (
    SELECT chunk_id FROM embeddings WHERE codebase_key = $1 AND space_key = $2
    ORDER BY hashint8extended(chunk_id, 0), chunk_id LIMIT $3
) drawn
JOIN embeddings e ON e.chunk_id = drawn.chunk_id AND e.space_key = $2
JOIN chunks c ON c.chunk_id = drawn.chunk_id
ORDER BY c.path, c.start_line, c.chunk_id
