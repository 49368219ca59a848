-- What the recall watch found: how much of what exact search finds the index of a space finds in a codebase.

CREATE TABLE recall_checks (
    space_key        integer NOT NULL REFERENCES spaces ON DELETE CASCADE,
    codebase_key     bigint NOT NULL REFERENCES codebases ON DELETE CASCADE,
    check_time       timestamptz NOT NULL DEFAULT now(),
    -- The index that was asked.
    method           text NOT NULL CHECK (method IN ('HNSW', 'BINARY')),
    -- Candidates that its scan kept in the end, of which the recall is.
    ef               integer NOT NULL CHECK (ef BETWEEN 1 AND 1000),
    -- Candidates that searches must keep; 0 where the usual number is enough.
    least_ef         integer NOT NULL CHECK (least_ef BETWEEN 0 AND 1000),
    -- False where none is: searches then compare every vector, as long as those are not too many.
    index_suffices   boolean NOT NULL,
    query_count      integer NOT NULL CHECK (query_count > 0),
    mean_recall      double precision NOT NULL CHECK (mean_recall BETWEEN 0 AND 1),
    minimum_recall   double precision NOT NULL CHECK (minimum_recall BETWEEN 0 AND mean_recall),
    target_recall    double precision NOT NULL,
    vector_count     bigint NOT NULL,
    PRIMARY KEY (space_key, codebase_key)
);

CREATE INDEX recall_checks_codebase ON recall_checks (codebase_key);

GRANT SELECT ON recall_checks TO duovec_caller, duovec_admin;

ALTER TABLE recall_checks ENABLE ROW LEVEL SECURITY;

CREATE POLICY admin_all ON recall_checks TO duovec_admin USING (true);
CREATE POLICY caller_select ON recall_checks FOR SELECT TO duovec_caller
    USING (codebase_key = ANY ((SELECT codebases_with('READ'))::bigint[]));
