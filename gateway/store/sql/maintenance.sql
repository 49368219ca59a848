-- name: list_tables
-- Lists the tables with what PostgreSQL's statistics say of them, largest first. A partition stands for itself.
SELECT s.relname AS "table", greatest(s.n_live_tup, 0) AS row_count, greatest(s.n_dead_tup, 0) AS dead_row_count,
       greatest(s.n_mod_since_analyze, 0) AS changed_row_count,
       pg_table_size(s.relid) AS table_bytes, pg_indexes_size(s.relid) AS index_bytes,
       greatest(s.last_vacuum, s.last_autovacuum) AS vacuum_time,
       greatest(s.last_analyze, s.last_autoanalyze) AS analyze_time,
       age(c.relfrozenxid) AS transaction_age
FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
WHERE s.schemaname = current_schema() AND c.relkind = 'r'
ORDER BY pg_total_relation_size(s.relid) DESC, s.relname

-- name: list_indexes
-- Lists the indexes whose size can be told from the rows: HNSW from the vectors, btree from the width of its columns.
-- What is being built is left out: it is neither broken nor complete.
SELECT i.relname AS "index", m.amname AS kind, x.indisvalid AS is_valid,
       pg_relation_size(i.oid) AS size_bytes, greatest(s.n_live_tup, 0) AS row_count,
       -- Item, tuple header and, rounded up to 8 bytes each, the columns.
       (SELECT 12 + sum(ceil(coalesce(p.avg_width, 8) / 8.0) * 8)
        FROM unnest(x.indkey::smallint[]) AS key (attnum)
        JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = key.attnum
        LEFT JOIN pg_stats p ON p.schemaname = current_schema() AND p.tablename = t.relname AND p.attname = a.attname
       )::double precision AS entry_bytes,
       pg_get_indexdef(i.oid) LIKE '%binary_quantize%' AS is_binary
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_class t ON t.oid = x.indrelid
JOIN pg_am m ON m.oid = i.relam
JOIN pg_stat_user_tables s ON s.relid = t.oid
WHERE s.schemaname = current_schema() AND t.relkind = 'r' AND m.amname IN ('hnsw', 'btree')
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.oid)
ORDER BY i.relname

-- name: list_standby_spaces
-- Lists the spaces that are kept to roll back to, with the size of their vectors and indexes, and for how many days.
SELECT fingerprint, pg_total_relation_size(to_regclass(format('embeddings_s%s', space_key))) AS size_bytes,
       extract(epoch FROM now() - deactivate_time)::double precision / 86400 AS idle_days
FROM spaces WHERE state = 'STANDBY' AND deactivate_time IS NOT NULL
ORDER BY space_key

-- name: get_server
-- Gets what keeps vacuum from its work: whether it is on, and the oldest transaction that idles, with its age, seconds.
SELECT current_setting('autovacuum')::boolean AS autovacuum,
       coalesce(extract(epoch FROM now() - oldest.xact_start), 0)::double precision AS idle_transaction_s,
       oldest.pid AS idle_transaction_pid
FROM (VALUES (0)) AS always
LEFT JOIN (
    SELECT pid, xact_start FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
      AND state LIKE 'idle in transaction%'
    ORDER BY xact_start LIMIT 1
) oldest ON true
