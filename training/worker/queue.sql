-- name: claim_run
-- Takes the oldest run that nobody works on, and says until when it is this worker's.
UPDATE training_runs
SET state = 'RUNNING', attempt = attempt + 1, worker = $1, lease_until = now() + $2::interval,
    start_time = coalesce(start_time, now()), lost_count = lost_count + (state = 'RUNNING')::integer
WHERE run_id = (
    SELECT run_id FROM training_runs
    WHERE (state = 'QUEUED' AND retry_time <= now()) OR (state = 'RUNNING' AND lease_until < now())
    ORDER BY run_id
    FOR UPDATE SKIP LOCKED
    LIMIT 1
)
RETURNING run_id, recipe, encoder, codebase_ids, seed, device, precision, publish, attempt, cancel_requested,
    lost_count, retry_count, create_time,
    -- Of the cluster, which a copy of its files shares, and of the database in it.
    (SELECT system_identifier FROM pg_control_system())::text || '/'
        || (SELECT oid FROM pg_database WHERE datname = current_database())::text AS database

-- name: has_queued_run
-- Says whether any run waits, be it for its next try.
SELECT EXISTS (SELECT FROM training_runs WHERE state = 'QUEUED') AS found

-- name: missing_codebases
-- Lists those of some codebases that are there no more.
SELECT coalesce(array_agg(codebase_id ORDER BY codebase_id), '{}') AS codebase_ids
FROM unnest($1::text[]) AS codebase_id
WHERE NOT EXISTS (SELECT FROM codebases WHERE codebases.codebase_id = codebase_id.codebase_id)

-- name: ended_runs
-- Lists those of some runs that have ended, or whose record is gone.
SELECT coalesce(array_agg(run_id), '{}') AS run_ids
FROM unnest($1::bigint[]) AS run_id
WHERE NOT EXISTS (
    SELECT FROM training_runs r WHERE r.run_id = run_id.run_id AND r.state IN ('QUEUED', 'RUNNING')
)

-- name: keep_run
-- Prolongs the lease of this attempt, with what is known by now; no row where it is another's.
UPDATE training_runs
SET lease_until = now() + $3::interval, stage = coalesce($4, stage), step = coalesce($5, step),
    step_count = coalesce($6, step_count), loss = coalesce($7, loss), tokens_per_s = coalesce($8, tokens_per_s)
WHERE run_id = $1 AND attempt = $2 AND state = 'RUNNING'
RETURNING cancel_requested

-- name: has_open_publication
-- Says whether something may be published for a run that did not reach its end.
SELECT EXISTS (SELECT FROM training_publications WHERE run_id = $1 AND state = 'RUNNING') AS found

-- name: give_back_run
-- Lets another worker take the run, at once or when something may be back that was away.
UPDATE training_runs
SET state = 'QUEUED', lease_until = NULL, retry_time = now() + $3::interval,
    retry_count = retry_count + ($3::interval > interval '0')::integer
WHERE run_id = $1 AND attempt = $2 AND state = 'RUNNING'
RETURNING run_id

-- name: end_run
-- Ends the run, if it is still this attempt's.
UPDATE training_runs
SET state = $3, lease_until = NULL, finish_time = now(), error_reason = $4, error = $5,
    metrics = coalesce($6::text::jsonb, metrics), space = $7, lineage = lineage || $8::text::jsonb
WHERE run_id = $1 AND attempt = $2 AND state = 'RUNNING'
RETURNING run_id

-- name: queue_due_run
-- Queues a run of the first schedule with enough new feedback to learn from, and no run that has not ended.
WITH due AS (
    SELECT s.* FROM training_schedules s
    WHERE NOT EXISTS (
        SELECT FROM training_runs r WHERE r.schedule_id = s.schedule_id AND r.state IN ('QUEUED', 'RUNNING')
    ) AND s.min_feedback_count <= (
        -- A useful hit is an example where the same search has one that is not, of the run's codebases; it is new
        -- where either judgement is.
        SELECT count(*) FROM feedback f JOIN codebases b USING (codebase_key)
        WHERE f.useful AND (cardinality(s.codebase_ids) = 0 OR b.codebase_id = ANY (s.codebase_ids)) AND EXISTS (
            SELECT FROM feedback g JOIN codebases o USING (codebase_key)
            WHERE g.search_key = f.search_key AND NOT g.useful
              AND greatest(f.judge_time, g.judge_time) > s.counted_until
              AND (cardinality(s.codebase_ids) = 0 OR o.codebase_id = ANY (s.codebase_ids))
        )
    )
    ORDER BY s.schedule_id
    FOR UPDATE OF s SKIP LOCKED
    LIMIT 1
), counted AS (
    UPDATE training_schedules s SET counted_until = now() FROM due WHERE s.schedule_id = due.schedule_id
)
INSERT INTO training_runs
    (schedule_id, recipe, encoder, codebase_ids, seed, device, precision, publish, principal_id)
SELECT schedule_id, recipe, encoder, codebase_ids, seed, device, precision, publish, principal_id FROM due
ON CONFLICT DO NOTHING
RETURNING run_id
