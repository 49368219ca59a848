-- Row-level security for the words of chunks, which tell most of their source, and for how common words are.
--
-- Under a policy PostgreSQL uses no GIN index, since @@ is not leakproof. So chunks are found by their words through
-- functions of the owner, whom no policy holds, and who look into no codebase that the caller may not read.

ALTER TABLE chunk_words ENABLE ROW LEVEL SECURITY;
ALTER TABLE word_counts ENABLE ROW LEVEL SECURITY;

CREATE POLICY admin_all ON chunk_words TO duovec_admin USING (true);
CREATE POLICY admin_all ON word_counts TO duovec_admin USING (true);
CREATE POLICY caller_select ON chunk_words FOR SELECT TO duovec_caller
    USING (codebase_key = ANY ((SELECT codebases_with('READ'))::bigint[]));
CREATE POLICY caller_select ON word_counts FOR SELECT TO duovec_caller
    USING (codebase_key = ANY ((SELECT codebases_with('READ'))::bigint[]));

-- Those of the codebases that the transaction may read. Within a function of the owner the setting still names the role
-- that called it; "none" is the system.
CREATE FUNCTION readable(codebase_keys bigint[]) RETURNS bigint[]
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
RETURN CASE
    WHEN current_setting('role') IN ('none', 'duovec_admin') THEN codebase_keys
    ELSE ARRAY(SELECT unnest(codebase_keys) INTERSECT SELECT unnest(codebases_with('READ')))
END;

-- The chunks of codebases whose words match.
CREATE FUNCTION chunks_with_words(codebase_keys bigint[], sought tsquery) RETURNS TABLE (chunk_id bigint)
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER ROWS 100 SET search_path FROM CURRENT AS $$
DECLARE
    keys CONSTANT bigint[] := readable(codebase_keys);
BEGIN
    RETURN QUERY SELECT w.chunk_id FROM chunk_words w WHERE w.codebase_key = ANY (keys) AND w.words @@ sought;
END
$$;

-- Which of the words, counted from 1, stand in which chunks of codebases, and their ts_rank there.
CREATE FUNCTION word_ranks(codebase_keys bigint[], sought text[], part_weights real[])
RETURNS TABLE (chunk_id bigint, n bigint, rank real)
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER ROWS 1000 SET search_path FROM CURRENT AS $$
DECLARE
    keys CONSTANT bigint[] := readable(codebase_keys);
BEGIN
    RETURN QUERY
    SELECT w.chunk_id, s.n, ts_rank(part_weights, w.words, s.query)
    FROM (SELECT t.n, quote_literal(t.word)::tsquery AS query FROM unnest(sought) WITH ORDINALITY AS t (word, n)) s
    JOIN chunk_words w ON w.codebase_key = ANY (keys) AND w.words @@ s.query;
END
$$;

REVOKE EXECUTE ON FUNCTION readable(bigint[]) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION chunks_with_words(bigint[], tsquery) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION word_ranks(bigint[], text[], real[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION chunks_with_words(bigint[], tsquery) TO duovec_caller, duovec_admin;
GRANT EXECUTE ON FUNCTION word_ranks(bigint[], text[], real[]) TO duovec_caller, duovec_admin;
