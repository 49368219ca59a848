-- Codebases, their chunks, and a vector for every chunk in every space.

CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE codebases (
    codebase_key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Collation "C" wherever keyset paging compares: byte order, as the clients sort.
    codebase_id  text COLLATE "C" NOT NULL UNIQUE
                 CHECK (codebase_id ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    display_name text NOT NULL CHECK (char_length(display_name) BETWEEN 1 AND 256),
    create_time  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE spaces (
    space_key   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fingerprint char(64) NOT NULL UNIQUE CHECK (fingerprint ~ '^[0-9a-f]{64}$'),
    manifest    jsonb NOT NULL,
    state       text NOT NULL CHECK (state IN ('BUILDING', 'ACTIVE', 'RETIRED')),
    create_time timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX spaces_one_active ON spaces (state) WHERE state = 'ACTIVE';

CREATE TABLE chunks (
    chunk_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    codebase_key     bigint NOT NULL REFERENCES codebases ON DELETE CASCADE,
    path             text COLLATE "C" NOT NULL CHECK (char_length(path) BETWEEN 1 AND 1024),
    language         text NOT NULL,
    symbol           text NOT NULL,
    kind             text NOT NULL,
    start_line       integer NOT NULL CHECK (start_line >= 1),
    end_line         integer NOT NULL CHECK (end_line >= start_line),
    content          text NOT NULL CHECK (content <> ''),
    -- Of the text that is embedded for the chunk: equal hashes share a vector.
    content_sha256   bytea NOT NULL CHECK (octet_length(content_sha256) = 32),
    file_sha256      bytea NOT NULL CHECK (octet_length(file_sha256) = 32),
    ordinal          integer NOT NULL CHECK (ordinal >= 0),
    file_chunk_count integer NOT NULL CHECK (file_chunk_count > ordinal),
    create_time      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (codebase_key, path, file_sha256, ordinal),
    -- Lets embeddings refer to both, so that no vector can be filed under another codebase than its chunk.
    UNIQUE (chunk_id, codebase_key)
);

CREATE INDEX chunks_content ON chunks (codebase_key, content_sha256);

-- Partitioned by space: a new model fills a partition while the old one serves, and a space is dropped with its
-- partition. The store creates the partitions, and the HNSW index of those
-- that need one.
CREATE TABLE embeddings (
    space_key    integer NOT NULL REFERENCES spaces,
    chunk_id     bigint NOT NULL,
    codebase_key bigint NOT NULL,
    embedding    halfvec(2560) NOT NULL,
    -- float16 moves the norm of a unit vector by less than 0.001; a zero vector or an unnormalized one is a fault.
    CONSTRAINT embeddings_unit_norm CHECK (l2_norm(embedding) BETWEEN 0.99 AND 1.01),
    -- The chunk comes first: deleting a chunk looks its vectors up by it.
    PRIMARY KEY (chunk_id, space_key),
    FOREIGN KEY (chunk_id, codebase_key) REFERENCES chunks (chunk_id, codebase_key) ON DELETE CASCADE
) PARTITION BY LIST (space_key);

-- The chunk is part of it for the cascade from chunks, which looks up both: by the codebase alone, deleting a codebase
-- would read all its vectors again for every chunk. The space is part of it so that counting reads nothing else.
CREATE INDEX embeddings_codebase ON embeddings (codebase_key, chunk_id) INCLUDE (space_key);

-- A vector never outlives the text that it was made from.
CREATE FUNCTION delete_stale_embeddings() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM embeddings WHERE chunk_id = NEW.chunk_id;
    RETURN NULL;
END
$$;

CREATE TRIGGER chunks_text_changed AFTER UPDATE OF content_sha256 ON chunks
    FOR EACH ROW WHEN (OLD.content_sha256 IS DISTINCT FROM NEW.content_sha256)
    EXECUTE FUNCTION delete_stale_embeddings();
