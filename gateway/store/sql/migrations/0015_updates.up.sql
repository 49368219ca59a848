-- Updates: what brings a codebase into line with a commit, and whether it was alone at that.

CREATE TABLE updates (
    codebase_key  bigint PRIMARY KEY REFERENCES codebases ON DELETE CASCADE,
    -- Of the update that began last; no other has it, even of a codebase of this name that was deleted.
    update_number bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    -- Since then nobody else wrote, and nothing was recorded. Taken away in the transaction of the first such write.
    undisturbed   boolean NOT NULL DEFAULT true
);

GRANT SELECT, INSERT, UPDATE ON updates TO duovec_caller, duovec_admin;
ALTER TABLE updates ENABLE ROW LEVEL SECURITY;

CREATE POLICY admin_all ON updates TO duovec_admin USING (true);
CREATE POLICY caller_select ON updates FOR SELECT TO duovec_caller
    USING (codebase_key = ANY ((SELECT codebases_with('WRITE'))::bigint[]));
CREATE POLICY caller_insert ON updates FOR INSERT TO duovec_caller
    WITH CHECK (codebase_key = ANY ((SELECT codebases_with('WRITE'))::bigint[]));
CREATE POLICY caller_update ON updates FOR UPDATE TO duovec_caller
    USING (codebase_key = ANY ((SELECT codebases_with('WRITE'))::bigint[]));
