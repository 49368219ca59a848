-- name: is_admin
-- Says whether this transaction is an administrator's, or the system's.
SELECT current_user <> 'duovec_caller'

-- name: list_codebase_keys
-- Gets the codebases whose quality the caller may see, from one on by id.
SELECT codebase_key FROM codebases
WHERE codebase_id >= $1
  AND (current_user <> 'duovec_caller' OR codebase_key = ANY ((SELECT codebases_with('OWNER'))::bigint[]))

-- name: list_quality
-- Measures search by codebase, space and week. A search counts for a codebase that it named when it showed a hit of it, or
-- nothing at all; ranks are those among the codebase's hits, as if it had been searched alone. Codebase 0 is all together.
-- Grades are discounted by the binary logarithm of the rank + 1, and divided by the sum for the best order of what was
-- graded (Järvelin and Kekäläinen, ACM TOIS 20(4), 2002).
WITH counted AS MATERIALIZED (
    SELECT s.search_key, r.codebase_key, b.codebase_id, s.space, s.create_time, s.hit_count = 0 AS is_empty
    FROM searched_codebases r
    JOIN searches s USING (search_key)
    JOIN codebases b USING (codebase_key)
    WHERE r.codebase_key = ANY(:codebase_keys::bigint[])
      AND (cardinality(r.chunk_ids) > 0 OR s.hit_count = 0)
      AND s.create_time >= :since::timestamptz AND (:space::text = '' OR s.space = :space::text)
    UNION ALL
    SELECT s.search_key, 0, '', s.space, s.create_time, s.hit_count = 0
    FROM searches s
    WHERE :together::boolean
      AND s.create_time >= :since::timestamptz AND (:space::text = '' OR s.space = :space::text)
), judged AS (
    SELECT search_key, codebase_key, codebase_rank AS rank, gain, opened_time IS NOT NULL OR useful IS TRUE AS clicked
    FROM feedback WHERE codebase_key = ANY(:codebase_keys::bigint[])
    UNION ALL
    SELECT search_key, 0, rank, gain, opened_time IS NOT NULL OR useful IS TRUE
    FROM feedback WHERE :together::boolean
), placed AS (
    SELECT *, row_number() OVER (PARTITION BY search_key, codebase_key ORDER BY gain DESC) AS ideal_rank FROM judged
), scored AS MATERIALIZED (
    SELECT search_key, codebase_key,
           min(rank) FILTER (WHERE clicked) AS click_rank,
           coalesce(1.0::float8 / min(rank) FILTER (WHERE gain > 0), 0) AS reciprocal_rank,
           coalesce(sum(gain * ln(2.0::float8) / ln(rank + 1.0::float8)) FILTER (WHERE rank <= 10), 0) AS gained,
           sum(gain * ln(2.0::float8) / ln(ideal_rank + 1.0::float8)) FILTER (WHERE ideal_rank <= 10) AS ideal
    FROM placed GROUP BY search_key, codebase_key
)
SELECT codebase_key, codebase_id, space, date_trunc('week', create_time, 'UTC') AS week,
       count(*) AS search_count,
       count(*) FILTER (WHERE is_empty) AS zero_hit_count,
       count(scored.search_key) AS judged_count,
       (count(*) FILTER (WHERE click_rank <= 1))::float8 / count(*) AS click_through_at_1,
       (count(*) FILTER (WHERE click_rank <= 3))::float8 / count(*) AS click_through_at_3,
       (count(*) FILTER (WHERE click_rank <= 10))::float8 / count(*) AS click_through_at_10,
       avg(reciprocal_rank) AS mrr,
       avg(CASE WHEN ideal > 0 THEN gained / ideal ELSE 0 END) FILTER (WHERE scored.search_key IS NOT NULL) AS ndcg_at_10
FROM counted LEFT JOIN scored USING (search_key, codebase_key)
GROUP BY codebase_key, codebase_id, space, week
HAVING (codebase_id, space, date_trunc('week', create_time, 'UTC'))
     > (:after_codebase_id::text, :after_space::text, :after_week::timestamptz)
ORDER BY codebase_id, space, week
LIMIT :limit::integer

-- name: sum_queries
-- Sums up the query vectors of each codebase, space and week, or of a sample of them where there are more than enough: how
-- many, their mean, and the sum of their squared norms. Ids of searches are random, and so is their order.
WITH counted AS (
    SELECT r.codebase_key, s.space, date_trunc('week', s.create_time, 'UTC') AS week, s.search_id, s.query_vector
    FROM searched_codebases r JOIN searches s USING (search_key)
    WHERE r.codebase_key = ANY(:codebase_keys::bigint[])
      AND (cardinality(r.chunk_ids) > 0 OR s.hit_count = 0)
      AND s.create_time >= :since::timestamptz AND (:space::text = '' OR s.space = :space::text)
      AND s.query_vector IS NOT NULL
    UNION ALL
    SELECT 0, s.space, date_trunc('week', s.create_time, 'UTC'), s.search_id, s.query_vector
    FROM searches s
    WHERE :together::boolean
      AND s.create_time >= :since::timestamptz AND (:space::text = '' OR s.space = :space::text)
      AND s.query_vector IS NOT NULL
), sampled AS (
    SELECT *, row_number() OVER (PARTITION BY codebase_key, space, week ORDER BY search_id) AS place FROM counted
)
SELECT codebase_key, space, week, count(*) AS n, avg(query_vector::vector) AS mean,
       -sum(query_vector <#> query_vector) AS squares
FROM sampled
WHERE place <= :sample::integer
GROUP BY codebase_key, space, week
