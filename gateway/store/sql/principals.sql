-- name: whoami
-- Gets the principal of this transaction.
SELECT principal_key, principal_id, display_name, is_admin, create_time, requests_per_s, tokens_per_minute
FROM principals WHERE principal_key = current_principal()

-- name: create_principal
-- Adds a principal.
INSERT INTO principals (principal_id, display_name, is_admin) VALUES ($1, $2, $3)
RETURNING principal_key, principal_id, display_name, is_admin, create_time, requests_per_s, tokens_per_minute

-- name: get_principal
-- Gets a principal.
SELECT principal_key, principal_id, display_name, is_admin, create_time, requests_per_s, tokens_per_minute FROM principals WHERE principal_id = $1

-- name: list_principals
-- Lists principals by id, after one.
SELECT principal_key, principal_id, display_name, is_admin, create_time, requests_per_s, tokens_per_minute
FROM principals WHERE principal_id > $1 ORDER BY principal_id LIMIT $2

-- name: set_quota
-- Limits what a principal may ask for.
UPDATE principals SET requests_per_s = $2, tokens_per_minute = $3 WHERE principal_id = $1
RETURNING principal_key, principal_id, display_name, is_admin, create_time, requests_per_s, tokens_per_minute

-- name: delete_principal
-- Deletes a principal; its keys and grants go with it by cascade.
DELETE FROM principals WHERE principal_id = $1 RETURNING principal_key

-- name: create_api_key
-- Adds an API key.
INSERT INTO api_keys (key_id, principal_key, secret_sha256, display_name, expire_time) VALUES ($1, $2, $3, $4, $5)

-- name: get_api_key
-- Gets an API key, without its hash.
SELECT k.key_id, p.principal_id, k.display_name, k.create_time, k.expire_time, k.revoke_time
FROM api_keys k JOIN principals p USING (principal_key) WHERE k.key_id = $1

-- name: list_api_keys
-- Lists the API keys of a principal by id, after one, without their hashes.
SELECT k.key_id, p.principal_id, k.display_name, k.create_time, k.expire_time, k.revoke_time
FROM api_keys k JOIN principals p USING (principal_key)
WHERE k.principal_key = $1 AND k.key_id > $2 ORDER BY k.key_id LIMIT $3

-- name: lock_api_key
-- Keeps others from changing an API key until the transaction ends; gives what its successor inherits.
SELECT principal_key, display_name, expire_time, revoke_time IS NOT NULL AS revoked,
       coalesce(expire_time <= now(), false) AS expired
FROM api_keys WHERE key_id = $1 FOR UPDATE

-- name: shorten_api_key
-- Lets an API key expire after a time at the latest.
UPDATE api_keys SET expire_time = least(expire_time, now() + $2::interval) WHERE key_id = $1

-- name: revoke_api_key
-- Revokes an API key; the first time counts.
UPDATE api_keys SET revoke_time = coalesce(revoke_time, now()) WHERE key_id = $1 RETURNING key_id

-- name: lock_admins
-- Lets one gateway at a time make the first administrator; released with the transaction.
SELECT pg_advisory_xact_lock(hashtext('duovec.admins'))

-- name: is_live_admin_key
-- Says whether this is the id and hash of a valid key of an administrator.
SELECT EXISTS (
    SELECT FROM api_keys k JOIN principals p USING (principal_key)
    WHERE k.key_id = $1 AND k.secret_sha256 = $2 AND p.is_admin
      AND k.revoke_time IS NULL AND coalesce(k.expire_time > now(), true)
)

-- name: has_live_admin_key
-- Says whether any administrator has a valid key.
SELECT EXISTS (
    SELECT FROM api_keys k JOIN principals p USING (principal_key)
    WHERE p.is_admin AND k.revoke_time IS NULL AND coalesce(k.expire_time > now(), true)
)

-- name: has_principals
-- Says whether there is anybody at all.
SELECT EXISTS (SELECT FROM principals)

-- name: ensure_admin
-- Adds the first administrator unless it is there.
INSERT INTO principals (principal_id, display_name, is_admin) VALUES ($1, $1, true)
ON CONFLICT (principal_id) DO UPDATE SET is_admin = true
RETURNING principal_key
