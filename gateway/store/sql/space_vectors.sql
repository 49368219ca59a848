-- name: count_chunks
-- Counts the chunks of all codebases.
SELECT count(*) FROM chunks

-- name: count_pending
-- Counts the chunks without a vector in a space.
SELECT count(*) FROM chunks c
WHERE NOT EXISTS (SELECT FROM embeddings e WHERE e.space_key = $1 AND e.chunk_id = c.chunk_id)

-- name: find_pending
-- Gets chunks without a vector in a space, by id.
SELECT c.chunk_id, c.codebase_key, c.symbol, c.content, c.content_sha256 AS text_sha256
FROM chunks c
WHERE c.chunk_id > $2
  AND NOT EXISTS (SELECT FROM embeddings e WHERE e.space_key = $1 AND e.chunk_id = c.chunk_id)
ORDER BY c.chunk_id
LIMIT $3

-- name: copy_missing
-- Gives chunks without a vector in a space the one that another chunk of their codebase has for the same text. Locks in
-- the order that those who index lock.
WITH lacking AS MATERIALIZED (
    SELECT c.chunk_id, c.codebase_key, c.content_sha256
    FROM chunks c
    WHERE c.chunk_id = ANY($2::bigint[])
      AND NOT EXISTS (SELECT FROM embeddings e WHERE e.space_key = $1 AND e.chunk_id = c.chunk_id)
    ORDER BY c.codebase_key, c.path, c.file_sha256, c.ordinal
    FOR SHARE
)
INSERT INTO embeddings (space_key, chunk_id, codebase_key, embedding)
SELECT $1, lacking.chunk_id, lacking.codebase_key, source.embedding
FROM lacking
CROSS JOIN LATERAL (
    SELECT e.embedding FROM chunks c JOIN embeddings e ON e.space_key = $1 AND e.chunk_id = c.chunk_id
    WHERE c.codebase_key = lacking.codebase_key AND c.content_sha256 = lacking.content_sha256
    LIMIT 1
) source
ON CONFLICT DO NOTHING

-- name: find_lacking
-- Says which of some chunks are there with a text, and without a vector in a space.
SELECT c.chunk_id
FROM unnest($2::bigint[], $3::bytea[]) AS sent (chunk_id, content_sha256)
JOIN chunks c ON c.chunk_id = sent.chunk_id AND c.content_sha256 = sent.content_sha256
WHERE NOT EXISTS (SELECT FROM embeddings e WHERE e.space_key = $1 AND e.chunk_id = c.chunk_id)

-- name: insert_missing
-- Adds vectors of chunks that have none in a space, and still the text that the vector was made from. Locks in the order
-- that those who index lock.
WITH current AS MATERIALIZED (
    SELECT c.chunk_id, c.codebase_key, sent.embedding
    FROM unnest($2::bigint[], $3::bytea[], $4::halfvec[]) AS sent (chunk_id, content_sha256, embedding)
    JOIN chunks c ON c.chunk_id = sent.chunk_id AND c.content_sha256 = sent.content_sha256
    ORDER BY c.codebase_key, c.path, c.file_sha256, c.ordinal
    FOR SHARE OF c
)
INSERT INTO embeddings (space_key, chunk_id, codebase_key, embedding)
SELECT $1, chunk_id, codebase_key, embedding FROM current
ON CONFLICT DO NOTHING

-- name: sample_chunks
-- Gets chunks that have a vector in a space, with it, spread over all ids: the next ones after given numbers.
SELECT DISTINCT ON (c.chunk_id) b.codebase_id, c.chunk_id, c.codebase_key, c.symbol, c.content,
       c.content_sha256 AS text_sha256, e.embedding
FROM unnest($2::bigint[]) AS drawn (chunk_id)
CROSS JOIN LATERAL (
    SELECT e.chunk_id, e.embedding FROM embeddings e WHERE e.space_key = $1 AND e.chunk_id >= drawn.chunk_id
    ORDER BY e.chunk_id LIMIT 1
) e
JOIN chunks c ON c.chunk_id = e.chunk_id
JOIN codebases b ON b.codebase_key = c.codebase_key

-- name: list_large_codebases
-- Lists the codebases that have more than so many vectors in a space, largest first.
SELECT codebase_key, b.codebase_id, counted.n AS vector_count
FROM (
    SELECT codebase_key, count(*) AS n FROM embeddings WHERE space_key = $1 GROUP BY codebase_key HAVING count(*) > $2
) counted
JOIN codebases b USING (codebase_key)
ORDER BY counted.n DESC, b.codebase_id

-- name: sample_codebase
-- Takes some of a codebase's vectors, the same for the same seed. The ids are picked from an index; only those picked are
-- read.
SELECT e.chunk_id, e.embedding
FROM (
    SELECT chunk_id FROM embeddings WHERE space_key = $1 AND codebase_key = $2
    ORDER BY hashint8extended(chunk_id, $3) LIMIT $4
) picked
JOIN embeddings e ON e.chunk_id = picked.chunk_id AND e.space_key = $1

-- name: get_chunk_range
-- Gets the least and the greatest id of the chunks; null where there are none.
SELECT min(chunk_id) AS least, max(chunk_id) AS greatest FROM chunks
