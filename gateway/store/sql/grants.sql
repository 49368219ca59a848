-- name: find_principal
-- Gets the key of a principal whom the caller can name, though perhaps not see.
SELECT principal_key_of($1)

-- name: set_grant
-- Gives a principal a role on a codebase, in place of the one that it had.
INSERT INTO grants (principal_key, codebase_key, role) VALUES ($1, $2, $3::text::codebase_role)
ON CONFLICT (principal_key, codebase_key) DO UPDATE SET role = excluded.role
RETURNING create_time

-- name: delete_grant
-- Takes a principal's role on a codebase away.
DELETE FROM grants WHERE principal_key = $1 AND codebase_key = $2 RETURNING principal_key

-- name: list_grants
-- Lists the grants on a codebase by principal, after one.
SELECT p.principal_id, g.role::text AS role, g.create_time
FROM grants g JOIN principals p USING (principal_key)
WHERE g.codebase_key = $1 AND p.principal_id > $2 ORDER BY p.principal_id LIMIT $3
