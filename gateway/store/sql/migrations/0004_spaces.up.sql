-- Spaces beside the active one: filled from the stored chunks, verified, kept to roll back to.

-- A space was retired only when it held nothing.
DO $$
DECLARE
    key integer;
BEGIN
    FOR key IN SELECT space_key FROM spaces WHERE state = 'RETIRED' LOOP
        EXECUTE format('DROP TABLE IF EXISTS embeddings_s%s', key);
    END LOOP;
END
$$;
DELETE FROM spaces WHERE state = 'RETIRED';

ALTER TABLE spaces
    DROP CONSTRAINT spaces_state_check,
    -- BUILDING: is filled beside the active one. STANDBY: was active, and is still filled, to be rolled back to.
    -- DROPPING: its vectors go, or went and its row is the last of it.
    ADD CONSTRAINT spaces_state_check CHECK (state IN ('BUILDING', 'ACTIVE', 'STANDBY', 'DROPPING')),
    ADD COLUMN activate_time    timestamptz,
    ADD COLUMN deactivate_time  timestamptz,
    -- Whether the gateway gives its chunks vectors; without meaning for the active space.
    ADD COLUMN filling          boolean NOT NULL DEFAULT false,
    -- Chunks a second at most; null for as many as the encoders take.
    ADD COLUMN fill_rate        double precision CHECK (fill_rate > 0),
    -- Why the last batch failed; empty when it did not.
    ADD COLUMN fill_error       text NOT NULL DEFAULT '',
    -- Chunks that an encoder of this space could not read to their end.
    ADD COLUMN truncated_chunk_count bigint NOT NULL DEFAULT 0,
    -- What was found when every chunk had its vector; null before.
    ADD COLUMN verification     jsonb;

UPDATE spaces SET activate_time = create_time WHERE state = 'ACTIVE';

-- The space that is searched and written to; null before there is one.
CREATE FUNCTION active_space() RETURNS integer LANGUAGE sql STABLE SECURITY DEFINER
RETURN (SELECT space_key FROM spaces WHERE state = 'ACTIVE');

-- Keeps the states of all spaces as they are until the transaction ends, and gives that of one; null where there is no
-- such space. Volatile, so that the state is read after the lock is there.
CREATE FUNCTION hold_space_state(held_space_key integer) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('duovec.spaces'));
    RETURN (SELECT state FROM spaces WHERE space_key = held_space_key);
END
$$;
