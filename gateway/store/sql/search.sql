-- name: find_searched
-- Finds which of the codebases row-level security lets the caller see, with their revisions (version null for none) and
-- what the recall watch found about each; which space is the active one; how many vectors a space has, by PostgreSQL's
-- estimate, and which of its indexes are complete; and the words of a text, split as code is split, with how common
-- each is in these codebases (null where it is not). A row for each codebase, or one without, where none is seen; only
-- the first has the words, which may be many. And configures the rest of the transaction, which saves a round trip.
WITH visible AS MATERIALIZED (
    SELECT codebase_id, codebase_key, row_number() OVER () AS n
    FROM codebases WHERE codebase_id = ANY(:codebase_ids::text[])
), {words}, space AS (
    SELECT active_space() AS active_space_key,
           (SELECT greatest(reltuples, 0)::bigint FROM pg_class
            WHERE oid = to_regclass(format('embeddings_s%s', :space_key::integer))) AS in_space,
           (SELECT indisvalid FROM pg_index
            WHERE indexrelid = to_regclass(format('embeddings_s%s_hnsw', :space_key::integer))) IS TRUE AS has_hnsw,
           (SELECT indisvalid FROM pg_index
            WHERE indexrelid = to_regclass(format('embeddings_s%s_binary', :space_key::integer))) IS TRUE AS has_binary
), configured AS MATERIALIZED (
    SELECT {settings}
)
SELECT space.*, visible.codebase_id, visible.codebase_key, watched.least_ef, watched.index_suffices,
       CASE WHEN visible.n > 1 THEN '{{}}' ELSE ARRAY(SELECT word FROM sought ORDER BY word) END AS words,
       CASE WHEN visible.n > 1 THEN '{{}}' ELSE ARRAY(SELECT chunk_count FROM sought ORDER BY word) END AS word_chunk_counts,
       r.version, r.commit_id, r.folder, r.branch, r.commit_time, r.modified, r.record_time, r.outdated
FROM configured CROSS JOIN space
LEFT JOIN visible ON true
LEFT JOIN revisions r USING (codebase_key)
LEFT JOIN recall_checks watched ON watched.space_key = :space_key::integer AND watched.codebase_key = visible.codebase_key
ORDER BY visible.n

-- name: words_of_text
-- The words of a text, with how common each is.
sought AS MATERIALIZED (
    SELECT s.word, (
               SELECT sum(w.chunk_count)::bigint FROM visible
               JOIN word_counts w ON w.codebase_key = visible.codebase_key AND w.word = s.word
           ) AS chunk_count
    FROM unnest(tsvector_to_array(to_tsvector('simple', code_words(left(:text::text, 10000))))) AS s (word)
)

-- name: words_of_none
-- What stands for the words where there is no text: with them the statement would be planned anew each time.
sought AS (
    SELECT NULL::text AS word, NULL::bigint AS chunk_count WHERE false
)

-- name: count_searchable
-- Counts the chunks of codebases with and without a vector of the space.
SELECT embedded.n AS searched_chunk_count, greatest(total.n - embedded.n, 0) AS pending_chunk_count
FROM (SELECT count(*) AS n FROM chunks WHERE codebase_key = ANY(:codebase_keys::bigint[])) total,
     (SELECT count(*) AS n FROM embeddings
      WHERE space_key = :space_key::integer AND codebase_key = ANY(:codebase_keys::bigint[])) embedded

-- name: count_matching
-- Counts the chunks that a filter lets through, up to a limit.
SELECT count(*) FROM (
    SELECT FROM chunks c WHERE c.codebase_key = ANY(:codebase_keys::bigint[]) AND {filter} LIMIT :limit::integer
) matching

-- name: get_vectors
-- Gets the vectors of chunks of the codebases.
SELECT chunk_id, embedding FROM embeddings
WHERE chunk_id = ANY(:chunk_ids::bigint[]) AND space_key = :space_key::integer
  AND codebase_key = ANY(:codebase_keys::bigint[])

-- name: settings
-- For this transaction the server's own deadline, plans for the statements' own values, how far an HNSW scan goes, and, with
-- sort "off", that the planner takes indexes, of vectors and of words, where it would rather read and sort everything.
set_config('statement_timeout', :timeout_ms::text, true),
set_config('plan_cache_mode', 'force_custom_plan', true),
set_config('jit', 'off', true),
set_config('hnsw.ef_search', :ef_search::text, true),
set_config('hnsw.iterative_scan', 'strict_order', true),
set_config('hnsw.max_scan_tuples', :max_scan_tuples::text, true),
set_config('enable_sort', :sort::text, true),
set_config('enable_seqscan', :sort::text, true)

-- name: filter
-- What a filter asks of a chunk c.
(cardinality(:languages::text[]) = 0 OR c.language = ANY(:languages::text[]))
AND (cardinality(:kinds::text[]) = 0 OR c.kind = ANY(:kinds::text[]))
AND (:path_regex::text = '' OR (c.path ~ :path_regex::text AND c.path >= :path_from::text))
AND (:path_below::text = '' OR c.path < :path_below::text)

-- name: nearest_exact
-- Compares every vector of the codebases. The "+ 0" keeps the planner from answering by the HNSW index.
SELECT e.chunk_id, (e.embedding <=> :query::halfvec(2560)) + 0 AS distance
FROM embeddings e
WHERE e.space_key = :space_key::integer AND e.codebase_key = ANY(:codebase_keys::bigint[])

-- name: nearest_exact_filtered
-- Compares the vectors of the chunks that a filter lets through.
SELECT e.chunk_id, (e.embedding <=> :query::halfvec(2560)) + 0 AS distance
FROM chunks c JOIN embeddings e ON e.chunk_id = c.chunk_id AND e.space_key = :space_key::integer
WHERE c.codebase_key = ANY(:codebase_keys::bigint[]) AND {filter}

-- name: nearest_hnsw
-- Finds nearest vectors by the HNSW index; rows of other codebases are left out while it goes on scanning.
SELECT e.chunk_id, e.embedding <=> :query::halfvec(2560) AS distance
FROM embeddings e
WHERE e.space_key = :space_key::integer AND e.codebase_key = ANY(:codebase_keys::bigint[])
ORDER BY e.embedding <=> :query::halfvec(2560)
LIMIT :pool::integer

-- name: nearest_hnsw_filtered
-- As nearest_hnsw, looking up every candidate's chunk for the filter.
SELECT e.chunk_id, e.embedding <=> :query::halfvec(2560) AS distance
FROM embeddings e JOIN chunks c ON c.chunk_id = e.chunk_id
WHERE e.space_key = :space_key::integer AND e.codebase_key = ANY(:codebase_keys::bigint[]) AND {filter}
ORDER BY e.embedding <=> :query::halfvec(2560)
LIMIT :pool::integer

-- name: nearest_binary
-- Finds candidates by the Hamming distance of signs, and compares them at full precision.
SELECT e.chunk_id, e.embedding <=> :query::halfvec(2560) AS distance
FROM embeddings e
WHERE e.space_key = :space_key::integer AND e.codebase_key = ANY(:codebase_keys::bigint[])
ORDER BY binary_quantize(e.embedding)::bit(2560) <~> binary_quantize(:query::halfvec(2560))::bit(2560)
LIMIT :pool::integer

-- name: nearest_binary_filtered
-- As nearest_binary, looking up every candidate's chunk for the filter.
SELECT e.chunk_id, e.embedding <=> :query::halfvec(2560) AS distance
FROM embeddings e JOIN chunks c ON c.chunk_id = e.chunk_id
WHERE e.space_key = :space_key::integer AND e.codebase_key = ANY(:codebase_keys::bigint[]) AND {filter}
ORDER BY binary_quantize(e.embedding)::bit(2560) <~> binary_quantize(:query::halfvec(2560))::bit(2560)
LIMIT :pool::integer

-- name: compared_all
-- What is ranked after an exact search: everything that was compared.
SELECT chunk_id, distance FROM nearest

-- name: compared_pool
-- What is ranked after a search by an index: its candidates, and the chunks that have one of the looked-up words.
SELECT chunk_id, distance FROM nearest
UNION ALL
SELECT e.chunk_id, e.embedding <=> :query::halfvec(2560)
FROM chunks_with_words(:codebase_keys::bigint[], :any_word::text::tsquery) w
JOIN embeddings e ON e.chunk_id = w.chunk_id AND e.space_key = :space_key::integer
WHERE NOT EXISTS (SELECT FROM nearest n WHERE n.chunk_id = w.chunk_id)

-- name: compared_pool_filtered
-- As compared_pool, with a filter.
SELECT chunk_id, distance FROM nearest
UNION ALL
SELECT e.chunk_id, e.embedding <=> :query::halfvec(2560)
FROM chunks_with_words(:codebase_keys::bigint[], :any_word::text::tsquery) w
JOIN chunks c ON c.chunk_id = w.chunk_id
JOIN embeddings e ON e.chunk_id = w.chunk_id AND e.space_key = :space_key::integer
WHERE NOT EXISTS (SELECT FROM nearest n WHERE n.chunk_id = w.chunk_id) AND {filter}

-- name: found_by_word
-- The words of many chunks: each word is looked up, where an index is worth it.
SELECT chunk_id, n, rank
FROM compared JOIN word_ranks(:codebase_keys::bigint[], :words::text[], :part_weights::real[]) USING (chunk_id)

-- name: found_by_chunk
-- The words of a few chunks: each chunk is looked up. OFFSET keeps the planner from turning this around.
SELECT compared.chunk_id, sought.n, ts_rank(:part_weights::real[], w.words, sought.query) AS rank
FROM compared
CROSS JOIN LATERAL (
    SELECT words FROM chunk_words
    WHERE chunk_id = compared.chunk_id AND codebase_key = ANY(:codebase_keys::bigint[])
    OFFSET 0
) w
JOIN sought ON w.words @@ sought.query

-- name: counted_here
-- In how many chunks a word stands, where all chunks of the codebases were compared.
SELECT n AS word, count(*) AS chunk_count FROM found GROUP BY n

-- name: counted_by_index
-- In how many chunks a word stands, where that is not known; there are few such chunks, or few in the codebases at all.
SELECT sought.n AS word,
       (SELECT count(*) FROM chunks_with_words(:codebase_keys::bigint[], sought.query)) AS chunk_count
FROM sought WHERE sought.chunk_count IS NULL AND sought.weight IS NULL

-- name: no_lexical
-- What stands for the scores by words where none are asked for.
weighed AS (
    SELECT NULL::bigint AS n, NULL::float8 AS weight WHERE false
), lexical AS (
    SELECT NULL::bigint AS chunk_id, NULL::float8 AS lexical_score WHERE false
)

-- name: lexical
-- Scores by words: the share of the query's words that a chunk has. A word weighs by how rare it is (BM25's inverse
-- document frequency), or what it did on the first page, and counts by how often and where it stands (ts_rank of that word
-- alone, which levels off after a few occurrences).
sought AS MATERIALIZED (
    SELECT n, quote_literal(word)::tsquery AS query, chunk_count, weight
    FROM unnest(:words::text[], :word_chunk_counts::bigint[], :word_weights::float8[])
         WITH ORDINALITY AS t (word, chunk_count, weight, n)
), found AS MATERIALIZED (
    {found}
), counted AS MATERIALIZED (
    {counted}
), weighed AS MATERIALIZED (
    SELECT n, weight, sum(weight) OVER () AS total_weight
    FROM (
        SELECT sought.n,
               coalesce(sought.weight, ln((greatest(:searched::bigint, known.n) + 1) / (known.n + 0.5))) AS weight
        FROM sought
        LEFT JOIN counted ON counted.word = sought.n
        CROSS JOIN LATERAL (SELECT coalesce(sought.chunk_count, counted.chunk_count, 0) AS n) known
    ) weights
), lexical AS MATERIALIZED (
    SELECT found.chunk_id, sum(found.rank * weighed.weight) / greatest(max(weighed.total_weight), 1e-9) AS lexical_score
    FROM found JOIN weighed USING (n)
    GROUP BY found.chunk_id
)

-- name: rank
-- Ranks chunks by vectors and words, and gives one page; one row without chunk where the page is empty.
WITH nearest AS MATERIALIZED (
    {nearest}
), compared AS MATERIALIZED (
    {compared}
), {lexical}, scored AS (
    SELECT c.chunk_id, :scale::float8 * (1 - c.distance) AS similarity, coalesce(l.lexical_score, 0) AS lexical_score
    FROM compared c LEFT JOIN lexical l USING (chunk_id)
    WHERE c.chunk_id <> :excluded_chunk_id::bigint
), ranked AS (
    -- Rounded, so that the order of sums does not show, and the next page begins where this one ends.
    SELECT *, round(((1 - :lexical_weight::float8) * similarity + :lexical_weight::float8 * lexical_score) * 1e9) / 1e9
              AS score
    FROM scored
), page AS (
    SELECT * FROM ranked
    WHERE score >= :min_score::float8
      AND (score < :after_score::float8 OR (score = :after_score::float8 AND chunk_id > :after_chunk_id::bigint))
    ORDER BY score DESC, chunk_id
    LIMIT :limit::integer
), totals AS (
    SELECT (SELECT count(*) FROM compared) AS candidate_count,
           (SELECT count(*) FROM nearest) AS nearest_count,
           (SELECT array_agg(weight ORDER BY n) FROM weighed) AS word_weights,
           (SELECT :scale::float8 * (1 - max(distance)) FROM nearest) AS least_similarity
)
SELECT totals.*, page.score, page.similarity, page.lexical_score, c.*
FROM totals LEFT JOIN (page JOIN chunks c USING (chunk_id)) ON true
ORDER BY page.score DESC, page.chunk_id
