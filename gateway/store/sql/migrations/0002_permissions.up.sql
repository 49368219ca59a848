-- Who may do what: principals, their API keys and grants, and row-level security that repeats the gateway's check.
--
-- The transaction of a request runs as duovec_caller or duovec_admin, which own nothing and bypass nothing; who the
-- caller is stands in the setting duovec.principal_key of that transaction. The policies do not hold the owner of the
-- tables, who does what is nobody's request.

-- Roles belong to the whole server: another database of it may have made them.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['duovec_caller', 'duovec_admin'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;  -- made by another database's migration just now
            END;
        END IF;
        IF NOT pg_has_role(current_user, name, 'SET') THEN
            EXECUTE format('GRANT %I TO CURRENT_USER WITH INHERIT FALSE, SET TRUE', name);
        END IF;
    END LOOP;
END
$$;

CREATE TABLE principals (
    principal_key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    principal_id  text COLLATE "C" NOT NULL UNIQUE
                  CHECK (principal_id ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    display_name  text NOT NULL CHECK (char_length(display_name) BETWEEN 1 AND 256),
    is_admin      boolean NOT NULL DEFAULT false,
    create_time   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
    key_id        text COLLATE "C" PRIMARY KEY CHECK (key_id ~ '^[a-z0-9]{12}$'),
    principal_key bigint NOT NULL REFERENCES principals ON DELETE CASCADE,
    -- Of 256 random bits, which nobody can guess: a slow hash would protect nothing more.
    secret_sha256 bytea NOT NULL CHECK (octet_length(secret_sha256) = 32),
    display_name  text NOT NULL CHECK (char_length(display_name) <= 256),
    create_time   timestamptz NOT NULL DEFAULT now(),
    expire_time   timestamptz,
    revoke_time   timestamptz
);

CREATE INDEX api_keys_principal ON api_keys (principal_key);

-- In the order of what they allow: each includes those before it.
CREATE TYPE codebase_role AS ENUM ('READ', 'WRITE', 'OWNER');

CREATE TABLE grants (
    principal_key bigint NOT NULL REFERENCES principals ON DELETE CASCADE,
    codebase_key  bigint NOT NULL REFERENCES codebases ON DELETE CASCADE,
    role          codebase_role NOT NULL,
    create_time   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (principal_key, codebase_key)
);

CREATE INDEX grants_codebase ON grants (codebase_key);

-- The principal of this transaction; null for the system.
CREATE FUNCTION current_principal() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('duovec.principal_key', true), '')::bigint;

-- The codebases on which the caller has a role or a higher one. Policies call it in a subquery, once a statement: an
-- index on codebase_key then answers the policy and the query by the same scan.
CREATE FUNCTION codebases_with(least_role codebase_role) RETURNS bigint[]
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
RETURN ARRAY(SELECT codebase_key FROM grants WHERE principal_key = current_principal() AND role >= least_role);

-- Adds a codebase, and makes the caller its owner.
CREATE FUNCTION create_codebase(new_codebase_id text, new_display_name text) RETURNS bigint
LANGUAGE sql SECURITY DEFINER
BEGIN ATOMIC
    WITH added AS (
        INSERT INTO codebases (codebase_id, display_name) VALUES (new_codebase_id, new_display_name)
        RETURNING codebase_key
    ), owned AS (
        INSERT INTO grants (principal_key, codebase_key, role)
        SELECT current_principal(), codebase_key, 'OWNER' FROM added WHERE current_principal() IS NOT NULL
    )
    SELECT codebase_key FROM added;
END;

-- The key of a principal whom the caller can name but perhaps not see, so that owners can grant.
CREATE FUNCTION principal_key_of(named_principal_id text) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER
RETURN (SELECT principal_key FROM principals WHERE principal_id = named_principal_id);

GRANT SELECT, UPDATE, DELETE ON codebases TO duovec_caller, duovec_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON chunks, embeddings, grants TO duovec_caller, duovec_admin;
GRANT SELECT ON principals TO duovec_caller, duovec_admin;
GRANT INSERT, DELETE ON principals TO duovec_admin;
-- Nobody reads a hash back.
GRANT SELECT (key_id, principal_key, display_name, create_time, expire_time, revoke_time), INSERT,
      UPDATE (expire_time, revoke_time) ON api_keys TO duovec_caller, duovec_admin;

ALTER TABLE codebases ENABLE ROW LEVEL SECURITY;
ALTER TABLE chunks ENABLE ROW LEVEL SECURITY;
ALTER TABLE embeddings ENABLE ROW LEVEL SECURITY;
ALTER TABLE principals ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE grants ENABLE ROW LEVEL SECURITY;

CREATE POLICY admin_all ON codebases TO duovec_admin USING (true);
CREATE POLICY admin_all ON chunks TO duovec_admin USING (true);
CREATE POLICY admin_all ON embeddings TO duovec_admin USING (true);
CREATE POLICY admin_all ON principals TO duovec_admin USING (true);
CREATE POLICY admin_all ON api_keys TO duovec_admin USING (true);
CREATE POLICY admin_all ON grants TO duovec_admin USING (true);

CREATE POLICY caller_select ON codebases FOR SELECT TO duovec_caller
    USING (codebase_key = ANY ((SELECT codebases_with('READ'))::bigint[]));
CREATE POLICY caller_update ON codebases FOR UPDATE TO duovec_caller
    USING (codebase_key = ANY ((SELECT codebases_with('OWNER'))::bigint[]));
CREATE POLICY caller_delete ON codebases FOR DELETE TO duovec_caller
    USING (codebase_key = ANY ((SELECT codebases_with('OWNER'))::bigint[]));

CREATE POLICY caller_select ON chunks FOR SELECT TO duovec_caller
    USING (codebase_key = ANY ((SELECT codebases_with('READ'))::bigint[]));
CREATE POLICY caller_insert ON chunks FOR INSERT TO duovec_caller
    WITH CHECK (codebase_key = ANY ((SELECT codebases_with('WRITE'))::bigint[]));
CREATE POLICY caller_update ON chunks FOR UPDATE TO duovec_caller
    USING (codebase_key = ANY ((SELECT codebases_with('WRITE'))::bigint[]));
CREATE POLICY caller_delete ON chunks FOR DELETE TO duovec_caller
    USING (codebase_key = ANY ((SELECT codebases_with('WRITE'))::bigint[]));

CREATE POLICY caller_select ON embeddings FOR SELECT TO duovec_caller
    USING (codebase_key = ANY ((SELECT codebases_with('READ'))::bigint[]));
CREATE POLICY caller_insert ON embeddings FOR INSERT TO duovec_caller
    WITH CHECK (codebase_key = ANY ((SELECT codebases_with('WRITE'))::bigint[]));
CREATE POLICY caller_update ON embeddings FOR UPDATE TO duovec_caller
    USING (codebase_key = ANY ((SELECT codebases_with('WRITE'))::bigint[]));
CREATE POLICY caller_delete ON embeddings FOR DELETE TO duovec_caller
    USING (codebase_key = ANY ((SELECT codebases_with('WRITE'))::bigint[]));

-- One sees oneself, and whoever has a grant on what one owns.
CREATE POLICY caller_select ON principals FOR SELECT TO duovec_caller
    USING (
        principal_key = (SELECT current_principal())
        OR principal_key IN (
            SELECT g.principal_key FROM grants g WHERE g.codebase_key = ANY ((SELECT codebases_with('OWNER'))::bigint[])
        )
    );

CREATE POLICY caller_select ON api_keys FOR SELECT TO duovec_caller
    USING (principal_key = (SELECT current_principal()));
CREATE POLICY caller_insert ON api_keys FOR INSERT TO duovec_caller
    WITH CHECK (principal_key = (SELECT current_principal()));
CREATE POLICY caller_update ON api_keys FOR UPDATE TO duovec_caller
    USING (principal_key = (SELECT current_principal()));

CREATE POLICY caller_select ON grants FOR SELECT TO duovec_caller
    USING (
        principal_key = (SELECT current_principal())
        OR codebase_key = ANY ((SELECT codebases_with('OWNER'))::bigint[])
    );
CREATE POLICY caller_insert ON grants FOR INSERT TO duovec_caller
    WITH CHECK (codebase_key = ANY ((SELECT codebases_with('OWNER'))::bigint[]));
CREATE POLICY caller_update ON grants FOR UPDATE TO duovec_caller
    USING (codebase_key = ANY ((SELECT codebases_with('OWNER'))::bigint[]));
CREATE POLICY caller_delete ON grants FOR DELETE TO duovec_caller
    USING (codebase_key = ANY ((SELECT codebases_with('OWNER'))::bigint[]));
