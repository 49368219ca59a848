DROP FUNCTION hold_space_state(integer);
DROP FUNCTION active_space();

-- The schema before knows one space with vectors.
DO $$
DECLARE
    key integer;
BEGIN
    FOR key IN SELECT space_key FROM spaces WHERE state <> 'ACTIVE' LOOP
        EXECUTE format('DROP TABLE IF EXISTS embeddings_s%s', key);
    END LOOP;
END
$$;
DELETE FROM spaces WHERE state <> 'ACTIVE';

ALTER TABLE spaces
    DROP CONSTRAINT spaces_state_check,
    ADD CONSTRAINT spaces_state_check CHECK (state IN ('BUILDING', 'ACTIVE', 'RETIRED')),
    DROP COLUMN activate_time,
    DROP COLUMN deactivate_time,
    DROP COLUMN filling,
    DROP COLUMN fill_rate,
    DROP COLUMN fill_error,
    DROP COLUMN truncated_chunk_count,
    DROP COLUMN verification;
