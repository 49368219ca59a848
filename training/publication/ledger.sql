-- name: take_turn
-- Lets one publication at a time go on; released with the connection.
SELECT pg_try_advisory_lock(hashtextextended('duovec.publication', 0))

-- name: find_publication
-- Finds the publication of exactly these inputs.
SELECT publication_id, state, steps::text AS steps, error FROM training_publications WHERE inputs_sha256 = $1

-- name: begin_publication
-- Adds a publication, or goes on with the one that is there.
INSERT INTO training_publications (inputs_sha256, run_id, lineage) VALUES ($1, $2, $3::text::jsonb)
ON CONFLICT (inputs_sha256) DO UPDATE
    SET state = 'RUNNING', error = NULL, run_id = coalesce(excluded.run_id, training_publications.run_id),
        update_time = now()
RETURNING publication_id, state, steps::text AS steps, error

-- name: record_step
-- Records what a step found, and forgets the steps after it, which were made for something else.
UPDATE training_publications
SET steps = (steps - $3::text[]) || jsonb_build_object($2::text, $4::text::jsonb), update_time = now()
WHERE publication_id = $1
RETURNING publication_id

-- name: end_publication
-- Records how a publication ended.
UPDATE training_publications SET state = $2, error = $3, update_time = now() WHERE publication_id = $1
RETURNING publication_id

-- name: report_progress
-- Tells a run's row where it is, as long as the run is this worker's.
UPDATE training_runs SET stage = $3, step = $4, step_count = $5
WHERE run_id = $1 AND attempt = $2 AND state = 'RUNNING' AND lease_until > now()
RETURNING cancel_requested
