-- name: enter
-- Makes the rest of the transaction the caller's: role and principal of a key, where there is such a key and it is valid.
WITH found AS MATERIALIZED (
    SELECT k.secret_sha256, p.principal_key, p.principal_id, p.is_admin, p.requests_per_s, p.tokens_per_minute, k.expire_time,
           k.revoke_time IS NOT NULL AS revoked, coalesce(k.expire_time <= now(), false) AS expired
    FROM api_keys k JOIN principals p USING (principal_key)
    WHERE k.key_id = $1
)
SELECT found.*,
       set_config('duovec.principal_key', principal_key::text, true),
       set_config('duovec.actor', concat_ws(' ', principal_id, $1::text, $2::text), true),
       set_config('role', CASE WHEN is_admin THEN 'duovec_admin' ELSE 'duovec_caller' END, true)
FROM found

-- name: act_as_system
-- Gives up the role of an administrator for the rest of the transaction, for that of the service; nothing for others.
SELECT set_config('role', 'none', true) WHERE current_user = 'duovec_admin'

-- name: name_actor
-- Says who has the system make the changes of the rest of the transaction, for the audit log.
SELECT set_config('duovec.actor', $1, true)
