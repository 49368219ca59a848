-- name: start_run
-- Queues a run.
INSERT INTO training_runs (recipe, encoder, codebase_ids, seed, device, precision, publish, principal_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING *

-- name: get_run
-- Gets one run.
SELECT * FROM training_runs WHERE run_id = $1

-- name: list_runs
-- Lists runs, newest first, before one.
SELECT * FROM training_runs WHERE run_id < $1 ORDER BY run_id DESC LIMIT $2

-- name: cancel_run
-- Cancels a run that has not ended: at once, or by a worker where something may have been published.
UPDATE training_runs
SET cancel_requested = true, retry_time = '-infinity',
    state = CASE WHEN state = 'QUEUED' AND NOT (publish AND attempt > 0) THEN 'CANCELLED' ELSE state END,
    finish_time = CASE WHEN state = 'QUEUED' AND NOT (publish AND attempt > 0) THEN now() END
WHERE run_id = $1 AND state IN ('QUEUED', 'RUNNING')
RETURNING run_id

-- name: create_schedule
-- Adds a schedule.
INSERT INTO training_schedules
    (recipe, encoder, codebase_ids, seed, device, precision, publish, principal_id, min_feedback_count)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
RETURNING *

-- name: list_schedules
-- Lists schedules by id, after one.
SELECT * FROM training_schedules WHERE schedule_id > $1 ORDER BY schedule_id LIMIT $2

-- name: delete_schedule
-- Deletes a schedule.
DELETE FROM training_schedules WHERE schedule_id = $1 RETURNING schedule_id
