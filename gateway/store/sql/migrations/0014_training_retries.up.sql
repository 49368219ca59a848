-- Training: what a run may be tried again for is counted apart. A lost lease may be the run's own doing, a gateway that
-- is away is not: it is waited for, longer each time.

ALTER TABLE training_runs
    -- Claims whose lease was over before they ended.
    ADD COLUMN lost_count  integer NOT NULL DEFAULT 0,
    -- Claims given back because something was away, and when the next may begin.
    ADD COLUMN retry_count integer NOT NULL DEFAULT 0,
    ADD COLUMN retry_time  timestamptz NOT NULL DEFAULT '-infinity';

-- Of a run that waits to be tried again, a cancellation waits no longer.
GRANT UPDATE (retry_time) ON training_runs TO duovec_admin;
