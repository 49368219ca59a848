-- name: make_quick
-- Lets this transaction end before the disk has it: a crash may cost the log its last second, and nobody waits.
SET LOCAL synchronous_commit = off

-- name: insert_searches
-- Adds searches; those that are there already, from an attempt whose end was not seen, stay. Principals that were
-- deleted meanwhile take their searches with them.
INSERT INTO searches (search_id, principal_key, space, query_kind, query_text, like_chunk_id, like_codebase_key,
                      like_content_sha256, query_vector, hit_count, create_time)
SELECT sent.search_id, k.principal_key, sent.space, sent.query_kind, sent.query_text, sent.like_chunk_id,
       c.codebase_key, c.content_sha256, sent.query_vector, sent.hit_count, sent.create_time
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::halfvec[], $8::integer[],
            $9::timestamptz[])
     AS sent (search_id, key_id, space, query_kind, query_text, like_chunk_id, query_vector, hit_count, create_time)
JOIN api_keys k USING (key_id)
LEFT JOIN chunks c ON c.chunk_id = sent.like_chunk_id
ON CONFLICT (search_id) DO NOTHING
RETURNING search_key

-- name: insert_searched_codebases
-- Adds, for new searches, the codebases that they named and the hits in each; codebases that were deleted are left out.
INSERT INTO searched_codebases (search_key, codebase_key, principal_key, chunk_ids, content_sha256s, ranks, scores)
SELECT s.search_key, b.codebase_key, s.principal_key,
       coalesce(array_agg(hit.chunk_id ORDER BY hit.rank) FILTER (WHERE hit.rank IS NOT NULL), '{}'),
       coalesce(array_agg(hit.content_sha256 ORDER BY hit.rank) FILTER (WHERE hit.rank IS NOT NULL), '{}'),
       coalesce(array_agg(hit.rank ORDER BY hit.rank) FILTER (WHERE hit.rank IS NOT NULL), '{}'),
       coalesce(array_agg(hit.score ORDER BY hit.rank) FILTER (WHERE hit.rank IS NOT NULL), '{}')
FROM unnest($2::uuid[], $3::bigint[]) AS named (search_id, codebase_key)
JOIN searches s ON s.search_id = named.search_id AND s.search_key = ANY($1::bigint[])
JOIN codebases b ON b.codebase_key = named.codebase_key
LEFT JOIN unnest($4::uuid[], $5::bigint[], $6::bigint[], $7::bytea[], $8::integer[], $9::float8[])
     AS hit (search_id, codebase_key, chunk_id, content_sha256, rank, score)
     ON hit.search_id = named.search_id AND hit.codebase_key = named.codebase_key
GROUP BY s.search_key, b.codebase_key, s.principal_key
RETURNING search_key

-- name: delete_searches
-- Deletes searches by their keys.
DELETE FROM searches WHERE search_key = ANY($1::bigint[])

-- name: delete_expired
-- Deletes some of the searches that are older than an interval, oldest first, with their feedback.
DELETE FROM searches WHERE search_key IN (
    SELECT search_key FROM searches WHERE create_time < now() - $1::interval
    ORDER BY create_time LIMIT $2 FOR UPDATE SKIP LOCKED
)
RETURNING 1

-- name: find_shown
-- Finds the hits of one of the caller's own searches in the codebases that it may still read; a row without chunk where
-- there are none in such a codebase, and no row at all where there is no such search, or no such codebase.
SELECT s.search_key, s.hit_count, r.codebase_key, hit.chunk_id, hit.content_sha256, hit.rank, hit.codebase_rank
FROM searches s
JOIN searched_codebases r USING (search_key)
LEFT JOIN LATERAL unnest(r.chunk_ids, r.content_sha256s, r.ranks)
     WITH ORDINALITY AS hit (chunk_id, content_sha256, rank, codebase_rank) ON true
WHERE s.search_id = $1 AND s.principal_key = current_principal()

-- name: record_feedback
-- Adds what is said of hits to what was said before: opened counts from the first time on, of useful and not useful the
-- last word counts. Saying the same again changes nothing.
INSERT INTO feedback AS f (search_key, codebase_key, chunk_id, content_sha256, rank, codebase_rank, opened_time, useful,
                           judge_time)
SELECT $1, said.codebase_key, said.chunk_id, said.content_sha256, said.rank, said.codebase_rank,
       CASE WHEN said.opened THEN now() END, said.useful, CASE WHEN said.useful IS NOT NULL THEN now() END
FROM unnest($2::bigint[], $3::bigint[], $4::bytea[], $5::integer[], $6::integer[], $7::boolean[], $8::boolean[])
     AS said (codebase_key, chunk_id, content_sha256, rank, codebase_rank, opened, useful)
ORDER BY said.chunk_id
ON CONFLICT (search_key, chunk_id) DO UPDATE
SET opened_time = coalesce(f.opened_time, excluded.opened_time),
    useful = coalesce(excluded.useful, f.useful),
    judge_time = CASE WHEN excluded.useful IS DISTINCT FROM f.useful THEN coalesce(excluded.judge_time, f.judge_time)
                      ELSE f.judge_time END
