-- Searches that were answered, what they showed, and what their callers made of it.

CREATE TABLE searches (
    search_key          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- 128 random bits: only who was told it in the reply knows it.
    search_id           uuid NOT NULL UNIQUE,
    principal_key       bigint NOT NULL REFERENCES principals ON DELETE CASCADE,
    -- The fingerprint, and no reference: what was learned in a space outlives it.
    space               text COLLATE "C" NOT NULL CHECK (space ~ '^[0-9a-f]{64}$'),
    query_kind          text NOT NULL CHECK (query_kind IN ('QUERY', 'CODE', 'LIKE')),
    query_text          text,
    -- Of LIKE: the chunk, its codebase, and the text that it had.
    like_chunk_id       bigint,
    like_codebase_key   bigint REFERENCES codebases ON DELETE CASCADE,
    like_content_sha256 bytea CHECK (octet_length(like_content_sha256) = 32),
    -- Null where it cannot be compared with other queries' vectors: another blend, or an encoder that was down.
    query_vector        halfvec(2560),
    -- Of all codebases together, as the first page showed them.
    hit_count           integer NOT NULL CHECK (hit_count >= 0),
    create_time         timestamptz NOT NULL,
    CHECK ((query_text IS NULL) = (query_kind = 'LIKE'))
);

CREATE INDEX searches_principal ON searches (principal_key);
CREATE INDEX searches_time ON searches (create_time);
CREATE INDEX searches_like ON searches (like_codebase_key) WHERE like_codebase_key IS NOT NULL;

-- A row for every codebase that a search named, with those of the hits that lie in it, best first.
CREATE TABLE searched_codebases (
    search_key      bigint NOT NULL REFERENCES searches ON DELETE CASCADE,
    codebase_key    bigint NOT NULL REFERENCES codebases ON DELETE CASCADE,
    -- That of the search; it stands here too because the policies of both tables cannot ask each other.
    principal_key   bigint NOT NULL,
    chunk_ids       bigint[] NOT NULL,
    -- Of the texts that were shown; a chunk may have another since.
    content_sha256s bytea[] NOT NULL,
    -- Among the hits of all codebases, from 1.
    ranks           integer[] NOT NULL,
    scores          double precision[] NOT NULL,
    PRIMARY KEY (search_key, codebase_key),
    CHECK (cardinality(content_sha256s) = cardinality(chunk_ids)
           AND cardinality(ranks) = cardinality(chunk_ids) AND cardinality(scores) = cardinality(chunk_ids))
);

CREATE INDEX searched_codebases_codebase ON searched_codebases (codebase_key);

-- What somebody searched for in a codebase goes with it, unless other codebases were searched at once.
CREATE FUNCTION delete_searches_of_nothing() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM searches s USING gone
    WHERE s.search_key = gone.search_key
      AND NOT EXISTS (SELECT FROM searched_codebases r WHERE r.search_key = s.search_key);
    RETURN NULL;
END
$$;

CREATE TRIGGER searched_codebases_deleted AFTER DELETE ON searched_codebases
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION delete_searches_of_nothing();

-- One row for every hit of which something was said.
CREATE TABLE feedback (
    search_key     bigint NOT NULL,
    codebase_key   bigint NOT NULL,
    chunk_id       bigint NOT NULL,
    -- Of the text that was shown. It alone leads to the text: the chunk may have another since, or be gone.
    content_sha256 bytea NOT NULL CHECK (octet_length(content_sha256) = 32),
    -- Among the hits of all codebases, and among those of this one, from 1.
    rank           integer NOT NULL CHECK (rank >= 1),
    codebase_rank  integer NOT NULL CHECK (codebase_rank BETWEEN 1 AND rank),
    -- The first time.
    opened_time    timestamptz,
    -- The last word on it.
    useful         boolean,
    judge_time     timestamptz,
    -- The grade of the hit, as quality and training take it.
    gain           smallint NOT NULL GENERATED ALWAYS AS (CASE WHEN useful THEN 2 WHEN useful IS NULL THEN 1 ELSE 0 END)
                   STORED,
    PRIMARY KEY (search_key, chunk_id),
    FOREIGN KEY (search_key, codebase_key) REFERENCES searched_codebases ON DELETE CASCADE,
    CHECK (opened_time IS NOT NULL OR useful IS NOT NULL),
    CHECK ((useful IS NULL) = (judge_time IS NULL))
);

CREATE INDEX feedback_codebase ON feedback (codebase_key);

-- Feedback with its lineage, for training: a query, and the text that its caller saw and judged, as long as that text
-- is stored in the codebase, in whichever chunk.
CREATE VIEW feedback_examples WITH (security_invoker = true) AS
SELECT s.search_id, s.principal_key, s.space, s.create_time AS search_time, s.query_kind, s.query_text,
       s.like_content_sha256, c.codebase_key, b.codebase_id, f.rank, f.opened_time, f.useful, f.judge_time, f.gain,
       c.chunk_id, c.path, c.language, c.symbol, c.kind, c.start_line, c.end_line, c.content, c.content_sha256
FROM feedback f
JOIN searches s USING (search_key)
JOIN codebases b USING (codebase_key)
CROSS JOIN LATERAL (
    SELECT * FROM chunks
    WHERE codebase_key = f.codebase_key AND content_sha256 = f.content_sha256
    ORDER BY chunk_id LIMIT 1
) c;

-- The gateway writes the log as its owner, after the reply. What people searched for is read back by no request.
GRANT SELECT (search_key, search_id, principal_key, space, query_vector, hit_count, create_time) ON searches
    TO duovec_caller, duovec_admin;
GRANT SELECT ON searched_codebases TO duovec_caller, duovec_admin;
GRANT SELECT, INSERT, UPDATE (opened_time, useful, judge_time) ON feedback TO duovec_caller, duovec_admin;

ALTER TABLE searches ENABLE ROW LEVEL SECURITY;
ALTER TABLE searched_codebases ENABLE ROW LEVEL SECURITY;
ALTER TABLE feedback ENABLE ROW LEVEL SECURITY;

CREATE POLICY admin_all ON searches TO duovec_admin USING (true);
CREATE POLICY admin_all ON searched_codebases TO duovec_admin USING (true);
CREATE POLICY admin_all ON feedback TO duovec_admin USING (true);

-- One's own, as far as one may still read the codebase; and all on what one owns, to see how good search is there.
CREATE POLICY caller_select ON searched_codebases FOR SELECT TO duovec_caller
    USING (
        (principal_key = (SELECT current_principal())
         AND codebase_key = ANY ((SELECT codebases_with('READ'))::bigint[]))
        OR codebase_key = ANY ((SELECT codebases_with('OWNER'))::bigint[])
    );
CREATE POLICY caller_select ON searches FOR SELECT TO duovec_caller
    USING (
        principal_key = (SELECT current_principal())
        OR EXISTS (
            SELECT FROM searched_codebases r
            WHERE r.search_key = searches.search_key
              AND r.codebase_key = ANY ((SELECT codebases_with('OWNER'))::bigint[])
        )
    );
CREATE POLICY caller_select ON feedback FOR SELECT TO duovec_caller
    USING (
        EXISTS (
            SELECT FROM searched_codebases r
            WHERE r.search_key = feedback.search_key AND r.codebase_key = feedback.codebase_key
        )
    );
-- On a hit that the caller was shown, and may still read.
CREATE POLICY caller_insert ON feedback FOR INSERT TO duovec_caller
    WITH CHECK (
        EXISTS (
            SELECT FROM searched_codebases r
            WHERE r.search_key = feedback.search_key AND r.codebase_key = feedback.codebase_key
              AND r.principal_key = (SELECT current_principal())
              AND r.codebase_key = ANY ((SELECT codebases_with('READ'))::bigint[])
              AND feedback.chunk_id = ANY (r.chunk_ids)
        )
    );
CREATE POLICY caller_update ON feedback FOR UPDATE TO duovec_caller
    USING (
        EXISTS (
            SELECT FROM searched_codebases r
            WHERE r.search_key = feedback.search_key AND r.codebase_key = feedback.codebase_key
              AND r.principal_key = (SELECT current_principal())
              AND r.codebase_key = ANY ((SELECT codebases_with('READ'))::bigint[])
        )
    );
