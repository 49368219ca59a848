ALTER TABLE training_runs DROP COLUMN lost_count, DROP COLUMN retry_count, DROP COLUMN retry_time;
