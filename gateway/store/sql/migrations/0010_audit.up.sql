-- The audit log: who changed what decides what others may do, or what is served. Written by triggers, in the transaction
-- of the change, so that no change is without its record, whoever makes it.

CREATE TABLE audit_events (
    audit_key    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- By the clock, since a transaction may have waited for its lock.
    create_time  timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Names and no references: a record outlives whom it names. All three are empty where no call made the change.
    principal_id text NOT NULL,
    key_id       text NOT NULL,
    peer         text NOT NULL,
    action       text NOT NULL CHECK (action ~ '^[A-Z]+(_[A-Z]+)*$'),
    -- `principals/alice`, `principals/alice/keys/4fz81k0qm2xa`, `codebases/mine`, `codebases/mine/grants/alice`,
    -- `spaces/<fingerprint>`.
    subject      text NOT NULL,
    details      jsonb NOT NULL
);

CREATE INDEX audit_events_time ON audit_events (create_time);

-- Nobody's request writes, changes or deletes a record.
GRANT SELECT ON audit_events TO duovec_admin;
ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY;
CREATE POLICY admin_select ON audit_events FOR SELECT TO duovec_admin USING (true);

-- Writes a record. `duovec.actor` is the principal, its key and where it called from, set for the transaction.
CREATE FUNCTION write_audit_event(new_action text, new_subject text, new_details jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    actor text := coalesce(current_setting('duovec.actor', true), '');
BEGIN
    INSERT INTO audit_events (principal_id, key_id, peer, action, subject, details)
    VALUES (split_part(actor, ' ', 1), split_part(actor, ' ', 2), split_part(actor, ' ', 3),
            new_action, new_subject, new_details);
END
$$;
REVOKE EXECUTE ON FUNCTION write_audit_event(text, text, jsonb) FROM PUBLIC;

CREATE FUNCTION audit_principal() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM write_audit_event('PRINCIPAL_CREATED', 'principals/' || NEW.principal_id,
                                  jsonb_build_object('admin', NEW.is_admin));
    ELSIF TG_OP = 'DELETE' THEN
        -- With what goes with it.
        PERFORM write_audit_event('PRINCIPAL_DELETED', 'principals/' || OLD.principal_id, jsonb_build_object(
            'keys', coalesce((SELECT jsonb_agg(key_id ORDER BY key_id) FROM api_keys
                              WHERE principal_key = OLD.principal_key), '[]'),
            'grants', coalesce((SELECT jsonb_object_agg(codebase_id, role) FROM grants JOIN codebases USING (codebase_key)
                                WHERE principal_key = OLD.principal_key), '{}')));
        RETURN OLD;
    ELSE
        IF NEW.is_admin <> OLD.is_admin THEN
            PERFORM write_audit_event('PRINCIPAL_ADMIN_SET', 'principals/' || NEW.principal_id,
                                      jsonb_build_object('admin', NEW.is_admin));
        END IF;
        IF (NEW.requests_per_s, NEW.tokens_per_minute) IS DISTINCT FROM (OLD.requests_per_s, OLD.tokens_per_minute) THEN
            PERFORM write_audit_event('QUOTA_SET', 'principals/' || NEW.principal_id, jsonb_build_object(
                'requests_per_s', NEW.requests_per_s, 'tokens_per_minute', NEW.tokens_per_minute,
                'former_requests_per_s', OLD.requests_per_s, 'former_tokens_per_minute', OLD.tokens_per_minute));
        END IF;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER audit_written AFTER INSERT OR UPDATE ON principals FOR EACH ROW EXECUTE FUNCTION audit_principal();
-- Before, while its keys and grants are there.
CREATE TRIGGER audit_deleted BEFORE DELETE ON principals FOR EACH ROW EXECUTE FUNCTION audit_principal();

CREATE FUNCTION audit_api_key() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    subject text;
BEGIN
    SELECT format('principals/%s/keys/%s', principal_id, coalesce(NEW.key_id, OLD.key_id)) INTO subject
    FROM principals WHERE principal_key = coalesce(NEW.principal_key, OLD.principal_key);
    IF TG_OP = 'INSERT' THEN
        PERFORM write_audit_event('KEY_CREATED', subject, jsonb_build_object('expire_time', NEW.expire_time));
    ELSIF TG_OP = 'DELETE' THEN
        -- A key that goes with its principal stands in the record of that.
        IF subject IS NOT NULL THEN
            PERFORM write_audit_event('KEY_DELETED', subject, '{}');
        END IF;
    ELSE
        IF NEW.revoke_time IS DISTINCT FROM OLD.revoke_time THEN
            PERFORM write_audit_event(CASE WHEN NEW.revoke_time IS NULL THEN 'KEY_RESTORED' ELSE 'KEY_REVOKED' END,
                                      subject, '{}');
        END IF;
        IF NEW.expire_time IS DISTINCT FROM OLD.expire_time THEN
            PERFORM write_audit_event('KEY_EXPIRY_SET', subject, jsonb_build_object('expire_time', NEW.expire_time));
        END IF;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON api_keys FOR EACH ROW EXECUTE FUNCTION audit_api_key();

CREATE FUNCTION audit_grant() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    subject text;
BEGIN
    SELECT format('codebases/%s/grants/%s', codebase_id, principal_id) INTO subject
    FROM codebases, principals
    WHERE codebase_key = coalesce(NEW.codebase_key, OLD.codebase_key)
      AND principal_key = coalesce(NEW.principal_key, OLD.principal_key);
    IF TG_OP = 'DELETE' THEN
        -- A grant that goes with its codebase or principal stands in the record of that.
        IF subject IS NOT NULL THEN
            PERFORM write_audit_event('GRANT_DELETED', subject, jsonb_build_object('role', OLD.role));
        END IF;
    ELSIF TG_OP = 'INSERT' THEN
        PERFORM write_audit_event('GRANT_SET', subject, jsonb_build_object('role', NEW.role));
    ELSIF NEW.role <> OLD.role THEN
        PERFORM write_audit_event('GRANT_SET', subject, jsonb_build_object('role', NEW.role, 'former_role', OLD.role));
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON grants FOR EACH ROW EXECUTE FUNCTION audit_grant();

CREATE FUNCTION audit_codebase() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM write_audit_event('CODEBASE_CREATED', 'codebases/' || NEW.codebase_id, '{}');
        RETURN NEW;
    END IF;
    PERFORM write_audit_event('CODEBASE_DELETED', 'codebases/' || OLD.codebase_id, jsonb_build_object(
        'grants', coalesce((SELECT jsonb_object_agg(principal_id, role) FROM grants JOIN principals USING (principal_key)
                            WHERE codebase_key = OLD.codebase_key), '{}')));
    RETURN OLD;
END
$$;

CREATE TRIGGER audit_created AFTER INSERT ON codebases FOR EACH ROW EXECUTE FUNCTION audit_codebase();
-- Before, while its grants are there.
CREATE TRIGGER audit_deleted BEFORE DELETE ON codebases FOR EACH ROW EXECUTE FUNCTION audit_codebase();

CREATE FUNCTION audit_space() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM write_audit_event('SPACE_BUILT', 'spaces/' || NEW.fingerprint, jsonb_build_object('state', NEW.state));
    ELSIF TG_OP = 'DELETE' THEN
        -- The end of a drop was recorded at its begin.
        IF OLD.state <> 'DROPPING' THEN
            PERFORM write_audit_event('SPACE_DROPPED', 'spaces/' || OLD.fingerprint, '{}');
        END IF;
    ELSIF NEW.state <> OLD.state AND NEW.state = 'ACTIVE' THEN
        -- Who activates the space that was active before takes a change back.
        PERFORM write_audit_event(CASE WHEN OLD.state = 'STANDBY' THEN 'SPACE_ROLLED_BACK' ELSE 'SPACE_ACTIVATED' END,
                                  'spaces/' || NEW.fingerprint, '{}');
    ELSIF NEW.state <> OLD.state AND NEW.state = 'DROPPING' THEN
        PERFORM write_audit_event('SPACE_DROPPED', 'spaces/' || NEW.fingerprint, '{}');
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER audit AFTER INSERT OR UPDATE OF state OR DELETE ON spaces FOR EACH ROW EXECUTE FUNCTION audit_space();
