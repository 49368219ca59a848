-- name: list_events
-- Lists the events of the audit log that match, newest first, before one.
SELECT audit_key, create_time, principal_id, key_id, peer, action, subject, details
FROM audit_events
WHERE ($1 = '' OR principal_id = $1)
  AND ($2 = '' OR $2 = ANY (string_to_array(subject, '/')))
  AND ($3 = '' OR action = $3)
  AND ($4::timestamptz IS NULL OR create_time >= $4)
  AND ($5::timestamptz IS NULL OR create_time < $5)
  AND ($6::bigint IS NULL OR audit_key < $6)
ORDER BY audit_key DESC LIMIT $7

-- name: delete_expired
-- Deletes some events that are older than an interval.
DELETE FROM audit_events
WHERE audit_key IN (
    SELECT audit_key FROM audit_events WHERE create_time < now() - $1::interval ORDER BY create_time LIMIT $2
)
RETURNING audit_key
