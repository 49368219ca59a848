-- name: find_unchanged
-- Finds the rows of a batch that are stored as they are, with a vector of the space; `n` counts from 1. Of equal symbols
-- and hashes the contents are equal.
SELECT sent.n, c.chunk_id
FROM unnest($3::text[], $4::bytea[], $5::integer[], $6::bytea[], $7::text[], $8::text[], $9::text[], $10::integer[],
            $11::integer[], $12::integer[])
     WITH ORDINALITY AS sent (path, file_sha256, ordinal, content_sha256, language, symbol, kind, start_line, end_line,
                              file_chunk_count, n)
JOIN chunks c ON c.codebase_key = $1 AND c.path = sent.path AND c.file_sha256 = sent.file_sha256
             AND c.ordinal = sent.ordinal AND c.content_sha256 = sent.content_sha256
WHERE (c.language, c.symbol, c.kind, c.start_line, c.end_line, c.file_chunk_count)
    = (sent.language, sent.symbol, sent.kind, sent.start_line, sent.end_line, sent.file_chunk_count)
  AND EXISTS (SELECT FROM embeddings e WHERE e.space_key = $2 AND e.chunk_id = c.chunk_id)

-- name: find_reusable
-- Finds the texts that have a vector of the space in the codebase.
SELECT sent.content_sha256
FROM unnest($3::bytea[]) AS sent (content_sha256)
WHERE EXISTS (
    SELECT FROM chunks c JOIN embeddings e ON e.space_key = $2 AND e.chunk_id = c.chunk_id
    WHERE c.codebase_key = $1 AND c.content_sha256 = sent.content_sha256
)

-- name: hold_codebase
-- Keeps a codebase from being deleted until the transaction ends; false where it is being deleted now, without waiting.
-- And keeps revisions from being recorded and updates from beginning: what is written is before them or after.
SELECT CASE WHEN pg_try_advisory_xact_lock_shared(hashtext('duovec.codebase'), ($1 % 2147483648)::integer)
            THEN pg_advisory_xact_lock_shared(hashtext('duovec.revision'), ($1 % 2147483648)::integer) IS NOT NULL
            ELSE false END

-- name: insert_chunks
-- Adds or updates chunks. Rows that are there and alike are locked, not written.
INSERT INTO chunks (codebase_key, path, language, symbol, kind, start_line, end_line, content, content_sha256,
                    file_sha256, ordinal, file_chunk_count)
SELECT $1, path, language, symbol, kind, start_line, end_line, content, content_sha256,
       file_sha256, ordinal, file_chunk_count
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::integer[], $8::text[], $9::bytea[],
            $10::bytea[], $11::integer[], $12::integer[])
     WITH ORDINALITY AS sent (path, language, symbol, kind, start_line, end_line, content, content_sha256,
                              file_sha256, ordinal, file_chunk_count, n)
ORDER BY n
ON CONFLICT (codebase_key, path, file_sha256, ordinal) DO UPDATE
SET language = excluded.language, symbol = excluded.symbol, kind = excluded.kind,
    start_line = excluded.start_line, end_line = excluded.end_line, content = excluded.content,
    content_sha256 = excluded.content_sha256, file_chunk_count = excluded.file_chunk_count
WHERE (chunks.language, chunks.symbol, chunks.kind, chunks.start_line, chunks.end_line, chunks.content,
       chunks.content_sha256, chunks.file_chunk_count)
   IS DISTINCT FROM
      (excluded.language, excluded.symbol, excluded.kind, excluded.start_line, excluded.end_line, excluded.content,
       excluded.content_sha256, excluded.file_chunk_count)

-- name: get_stored_chunks
-- Gets the ids of a batch's chunks in its order, and which have a vector of the space.
SELECT c.chunk_id,
       EXISTS (SELECT FROM embeddings e WHERE e.space_key = $2 AND e.chunk_id = c.chunk_id) AS embedded
FROM unnest($3::text[], $4::bytea[], $5::integer[]) WITH ORDINALITY AS sent (path, file_sha256, ordinal, n)
JOIN chunks c ON c.codebase_key = $1 AND c.path = sent.path AND c.file_sha256 = sent.file_sha256
             AND c.ordinal = sent.ordinal
ORDER BY sent.n

-- name: insert_embeddings
-- Adds vectors of a codebase's chunks. COPY, which is a little faster, PostgreSQL refuses under row-level security.
INSERT INTO embeddings (space_key, chunk_id, codebase_key, embedding)
SELECT $2, sent.chunk_id, $1, sent.embedding
FROM unnest($3::bigint[], $4::halfvec[]) AS sent (chunk_id, embedding)

-- name: reuse_embeddings
-- Gives chunks the vector that another chunk of the codebase has for the same text.
INSERT INTO embeddings (space_key, chunk_id, codebase_key, embedding)
SELECT $2, target.chunk_id, $1, source.embedding
FROM unnest($3::bigint[]) AS target (chunk_id)
JOIN chunks t ON t.chunk_id = target.chunk_id
CROSS JOIN LATERAL (
    SELECT e.embedding FROM chunks c JOIN embeddings e ON e.space_key = $2 AND e.chunk_id = c.chunk_id
    WHERE c.codebase_key = $1 AND c.content_sha256 = t.content_sha256
    LIMIT 1
) source
RETURNING chunk_id

-- name: list_files
-- Lists the versions of a codebase's files after one, by path, then hash; nothing counts as stored of one that is a mix of
-- two cuts.
SELECT c.path, c.file_sha256, max(c.file_chunk_count) AS file_chunk_count,
       CASE WHEN min(c.file_chunk_count) = max(c.file_chunk_count) THEN count(e.chunk_id) ELSE 0 END AS stored_chunk_count
FROM chunks c LEFT JOIN embeddings e ON e.space_key = $2 AND e.chunk_id = c.chunk_id
WHERE c.codebase_key = $1 AND (c.path, c.file_sha256) > ($3, $4::bytea)
GROUP BY c.path, c.file_sha256
ORDER BY c.path, c.file_sha256
LIMIT $5

-- name: get_with_neighbors
-- Gets a chunk of a codebase and up to so many before and after it of the same version of its file, in their order.
SELECT near.chunk_id, near.path, near.language, near.symbol, near.kind, near.start_line, near.end_line, near.content,
       near.content_sha256 AS text_sha256, near.file_sha256, near.ordinal, near.file_chunk_count
FROM chunks c
JOIN chunks near ON near.codebase_key = c.codebase_key AND near.path = c.path AND near.file_sha256 = c.file_sha256
                AND near.ordinal BETWEEN c.ordinal - $3::integer AND c.ordinal + $3::integer
WHERE c.chunk_id = $2 AND c.codebase_key = $1
ORDER BY near.ordinal

-- name: delete_files
-- Deletes the chunks of files but for the version to keep, of which the chunks of another cut go, too; where versions are
-- named, no others. Locks them in the order that inserts lock them.
WITH doomed AS MATERIALIZED (
    SELECT c.chunk_id
    FROM chunks c
    WHERE c.codebase_key = $1
      AND EXISTS (
          SELECT FROM unnest($2::text[], $3::bytea[], $4::integer[], $5::bytea[])
                      AS selected (path, keep_file_sha256, keep_file_chunk_count, file_sha256)
          WHERE selected.path = c.path
            AND CASE WHEN c.file_sha256 = selected.keep_file_sha256
                     THEN c.file_chunk_count <> selected.keep_file_chunk_count
                     ELSE c.file_sha256 = coalesce(selected.file_sha256, c.file_sha256) END
      )
    ORDER BY c.path, c.file_sha256, c.ordinal
    FOR UPDATE
), deleted AS (
    DELETE FROM chunks c USING doomed WHERE c.chunk_id = doomed.chunk_id RETURNING 1
)
SELECT count(*) FROM deleted
