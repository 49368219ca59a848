DROP TRIGGER audit ON spaces;
DROP TRIGGER audit_created ON codebases;
DROP TRIGGER audit_deleted ON codebases;
DROP TRIGGER audit ON grants;
DROP TRIGGER audit ON api_keys;
DROP TRIGGER audit_written ON principals;
DROP TRIGGER audit_deleted ON principals;
DROP FUNCTION audit_space, audit_codebase, audit_grant, audit_api_key, audit_principal, write_audit_event;
DROP TABLE audit_events;
