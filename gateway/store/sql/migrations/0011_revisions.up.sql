-- Revisions: the git commit that a codebase was brought into line with.

CREATE TABLE revisions (
    codebase_key bigint PRIMARY KEY REFERENCES codebases ON DELETE CASCADE,
    -- Counts what was recorded, so that two updates at once notice each other.
    version      bigint NOT NULL DEFAULT 1,
    commit_id    text NOT NULL CHECK (commit_id ~ '^([0-9a-f]{40}|[0-9a-f]{64})$'),
    folder       text NOT NULL CHECK (char_length(folder) <= 1024),
    branch       text NOT NULL CHECK (char_length(branch) <= 256),
    commit_time  timestamptz,
    modified     boolean NOT NULL,
    record_time  timestamptz NOT NULL DEFAULT now(),
    -- Chunks were written or deleted since. Set in the transaction of the first such write.
    outdated     boolean NOT NULL DEFAULT false
);

GRANT SELECT, INSERT, UPDATE ON revisions TO duovec_caller, duovec_admin;
ALTER TABLE revisions ENABLE ROW LEVEL SECURITY;

CREATE POLICY admin_all ON revisions TO duovec_admin USING (true);
CREATE POLICY caller_select ON revisions FOR SELECT TO duovec_caller
    USING (codebase_key = ANY ((SELECT codebases_with('READ'))::bigint[]));
CREATE POLICY caller_insert ON revisions FOR INSERT TO duovec_caller
    WITH CHECK (codebase_key = ANY ((SELECT codebases_with('WRITE'))::bigint[]));
CREATE POLICY caller_update ON revisions FOR UPDATE TO duovec_caller
    USING (codebase_key = ANY ((SELECT codebases_with('WRITE'))::bigint[]));
