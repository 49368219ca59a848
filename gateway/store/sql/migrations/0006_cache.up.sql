-- Vectors of texts that a principal had embedded before.
--
-- Unlogged: after a crash of the server the table is empty, and every row can be computed again. The vector is kept as
-- the bytes that were answered, 10,240 of them, so that the same text gives the same numbers; outside the row and
-- uncompressed, since noise does not compress, and the rows alone are read to find the longest unused.
CREATE UNLOGGED TABLE cached_embeddings (
    principal_key bigint NOT NULL REFERENCES principals ON DELETE CASCADE,
    space_key     integer NOT NULL REFERENCES spaces ON DELETE CASCADE,
    input_type    text COLLATE "C" NOT NULL CHECK (input_type IN ('query', 'passage')),
    text_sha256   bytea NOT NULL CHECK (octet_length(text_sha256) = 32),
    -- Little-endian float32.
    vector        bytea NOT NULL CHECK (octet_length(vector) = 10240),
    -- Up to an hour old, so that reading does not write.
    use_time      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (principal_key, space_key, input_type, text_sha256)
);

ALTER TABLE cached_embeddings ALTER COLUMN vector SET STORAGE EXTERNAL;

-- Deleting a space looks its rows up by it.
CREATE INDEX cached_embeddings_space ON cached_embeddings (space_key);

-- The key of a space, whose table requests have no business with otherwise.
CREATE FUNCTION space_key_of(named_fingerprint text) RETURNS integer
LANGUAGE sql STABLE SECURITY DEFINER
RETURN (SELECT space_key FROM spaces WHERE fingerprint = named_fingerprint);

GRANT SELECT, INSERT, UPDATE (use_time) ON cached_embeddings TO duovec_caller, duovec_admin;

ALTER TABLE cached_embeddings ENABLE ROW LEVEL SECURITY;

-- Administrators, too, have no business with what others embedded.
CREATE POLICY own_rows ON cached_embeddings TO duovec_caller, duovec_admin
    USING (principal_key = (SELECT current_principal()));
