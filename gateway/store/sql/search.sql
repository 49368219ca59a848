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

-- name: find_indexes
-- Says which indexes of a space are complete.
SELECT (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(format('embeddings_s%s_hnsw', :space_key::integer)))
           IS TRUE AS has_hnsw,
       (SELECT indisvalid FROM pg_index
        WHERE indexrelid = to_regclass(format('embeddings_s%s_binary', :space_key::integer))) IS TRUE AS has_binary

-- name: get_vector
-- Gets the vector of a chunk of one of the codebases.
SELECT embedding FROM embeddings
WHERE chunk_id = :chunk_id::bigint AND space_key = :space_key::integer
  AND codebase_key = ANY(:codebase_keys::bigint[])

-- name: configure_search
-- Sets, for this transaction, the server's own deadline, how far an HNSW scan goes, and, with sort "off", that the planner
-- takes the HNSW index where it would rather compare and sort.
SELECT set_config('statement_timeout', :timeout_ms::text, true),
       set_config('plan_cache_mode', 'force_custom_plan', true),
       set_config('jit', 'off', true),
       set_config('hnsw.ef_search', :ef_search::text, true),
       set_config('hnsw.iterative_scan', 'strict_order', true),
       set_config('hnsw.max_scan_tuples', :max_scan_tuples::text, true),
       set_config('enable_sort', :sort::text, true)

-- name: find_words
-- Splits a query into words as code is split, and gives how common each is in large codebases (null where it is not).
SELECT sought.word, sum(counted.chunk_count)::bigint AS chunk_count
FROM unnest(tsvector_to_array(to_tsvector('simple', code_words(left(:text::text, 10000))))) AS sought (word)
LEFT JOIN word_counts counted ON counted.codebase_key = ANY(:codebase_keys::bigint[]) AND counted.word = sought.word
GROUP BY sought.word
ORDER BY sought.word

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
-- What is ranked after a search by an index: its candidates, and those with the best words.
SELECT chunk_id, distance FROM nearest
UNION ALL
SELECT e.chunk_id, e.embedding <=> :query::halfvec(2560)
FROM (
    SELECT l.chunk_id FROM lexical l
    WHERE NOT EXISTS (SELECT FROM nearest n WHERE n.chunk_id = l.chunk_id)
    ORDER BY l.lexical_score DESC, l.chunk_id
    LIMIT :pool::integer
) l
JOIN embeddings e ON e.chunk_id = l.chunk_id AND e.space_key = :space_key::integer

-- name: compared_pool_filtered
-- As compared_pool, with a filter.
SELECT chunk_id, distance FROM nearest
UNION ALL
SELECT e.chunk_id, e.embedding <=> :query::halfvec(2560)
FROM (
    SELECT l.chunk_id FROM lexical l JOIN chunks c ON c.chunk_id = l.chunk_id
    WHERE NOT EXISTS (SELECT FROM nearest n WHERE n.chunk_id = l.chunk_id) AND {filter}
    ORDER BY l.lexical_score DESC, l.chunk_id
    LIMIT :pool::integer
) l
JOIN embeddings e ON e.chunk_id = l.chunk_id AND e.space_key = :space_key::integer

-- name: lexical
-- Scores chunks by the query's words: the share of their weight that a chunk has. A word weighs by how rare it is
-- (BM25's inverse document frequency), and counts by how often and where it stands (ts_rank of that word alone, which
-- levels off after a few occurrences). Words without a known count are looked up and counted here.
SELECT scored.chunk_id, sum(scored.weight * scored.rank) / greatest(max(scored.total_weight), 1e-9) AS lexical_score
FROM (
    SELECT found.chunk_id, found.rank, weighed.weight, sum_of.total_weight
    FROM found
    JOIN weighed ON weighed.n = found.n
    CROSS JOIN (SELECT sum(weight) AS total_weight FROM weighed) sum_of
) scored
GROUP BY scored.chunk_id

-- name: rank
-- Ranks chunks by vectors and words, and gives one page; one row without chunk where the page is empty.
WITH readable AS MATERIALIZED (
    -- Row-level security holds here, and so for the words too, which have no policies of their own.
    SELECT coalesce(array_agg(codebase_key), '{{}}') AS keys FROM codebases
    WHERE codebase_key = ANY(:codebase_keys::bigint[])
), sought AS MATERIALIZED (
    SELECT n, quote_literal(word)::tsquery AS query, chunk_count
    FROM unnest(:words::text[], :word_chunk_counts::bigint[]) WITH ORDINALITY AS t (word, chunk_count, n)
), found AS MATERIALIZED (
    SELECT w.chunk_id, sought.n, ts_rank(:part_weights::real[], w.words, sought.query) AS rank
    FROM chunk_words w CROSS JOIN sought
    WHERE w.codebase_key = ANY((SELECT keys FROM readable)::bigint[]) AND w.words @@ :any_word::text::tsquery
      AND w.words @@ sought.query
), weighed AS MATERIALIZED (
    SELECT sought.n,
           ln((greatest(:searched::bigint, counted.n) + 1) / (counted.n + 0.5)) AS weight
    FROM sought
    CROSS JOIN LATERAL (
        SELECT coalesce(sought.chunk_count, (SELECT count(*) FROM found WHERE found.n = sought.n)) AS n
    ) counted
), lexical AS MATERIALIZED (
    {lexical}
), nearest AS MATERIALIZED (
    {nearest}
), compared AS MATERIALIZED (
    {compared}
), scored AS (
    SELECT c.chunk_id, :scale::float8 * (1 - c.distance) AS similarity, coalesce(l.lexical_score, 0) AS lexical_score
    FROM compared c LEFT JOIN lexical l USING (chunk_id)
    WHERE c.chunk_id <> :excluded_chunk_id::bigint
), ranked AS (
    -- Rounded, so that the order of sums does not show, and the next page begins where this one ends.
    SELECT *, round(((1 - :lexical_weight::float8) * similarity + :lexical_weight::float8 * lexical_score)::numeric, 9)
              ::float8 AS score
    FROM scored
), page AS (
    SELECT * FROM ranked
    WHERE score >= :min_score::float8
      AND (score < :after_score::float8 OR (score = :after_score::float8 AND chunk_id > :after_chunk_id::bigint))
    ORDER BY score DESC, chunk_id
    LIMIT :limit::integer
), counted AS (
    SELECT (SELECT count(*) FROM compared) AS candidate_count, (SELECT count(*) FROM nearest) AS nearest_count,
           (SELECT :scale::float8 * (1 - max(distance)) FROM nearest) AS least_similarity
)
SELECT counted.candidate_count, counted.nearest_count, counted.least_similarity,
       page.score, page.similarity, page.lexical_score, c.*
FROM counted LEFT JOIN (page JOIN chunks c USING (chunk_id)) ON true
ORDER BY page.score DESC, page.chunk_id
