-- Search by words: what makes a chunk findable by the identifiers in it.

-- The words of source code, separated by blanks. An identifier is split where case, digits or underscores say so, and
-- one of several pieces is also kept whole: "HTTPServer" gives "HTTP Server HTTPServer", "read_utf8" gives
-- "read utf 8 readutf8". Everything in ASCII that is neither letter, digit nor underscore separates words.
CREATE FUNCTION code_words(source text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT coalesce(string_agg(
               CASE WHEN position(E'\x01' IN token) > 0
                    THEN replace(token, E'\x01', ' ') || ' ' || replace(token, E'\x01', '')
                    ELSE token END,
               ' '), '')
    FROM (
        -- \x01 marks the places where an identifier is split.
        SELECT btrim(regexp_replace(found, '\x01+', E'\x01', 'g'), E'\x01') AS token
        FROM regexp_split_to_table(
            regexp_replace(
                regexp_replace(
                    regexp_replace(
                        replace(translate(source, E'\x01', ' '), '_', E'\x01'),
                        '([a-z])([A-Z0-9])', E'\\1\x01\\2', 'g'),
                    '([0-9])([A-Za-z])', E'\\1\x01\\2', 'g'),
                '([A-Z])([A-Z][a-z]|[0-9])', E'\\1\x01\\2', 'g'),
            '[\x02-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]+') AS found
    ) tokens
    WHERE token <> ''
$$;

-- Beside chunks, not a column of it, and without policies: under row-level security PostgreSQL uses no GIN index, since
-- @@ is not leakproof. A search reads it by codebases that it has taken from their table, which has policies, and joins
-- what it finds to chunks.
CREATE TABLE chunk_words (
    codebase_key bigint NOT NULL,
    chunk_id     bigint NOT NULL,
    -- A: words of the symbol, B: of the path, D: of the content.
    words        tsvector NOT NULL,
    PRIMARY KEY (codebase_key, chunk_id),
    FOREIGN KEY (chunk_id, codebase_key) REFERENCES chunks (chunk_id, codebase_key) ON DELETE CASCADE
);

CREATE FUNCTION store_chunk_words() RETURNS trigger
-- As its owner: who may write a chunk need not be granted anything here.
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO chunk_words (codebase_key, chunk_id, words)
    VALUES (NEW.codebase_key, NEW.chunk_id, chunk_tsvector(NEW.symbol, NEW.path, NEW.content))
    ON CONFLICT (codebase_key, chunk_id) DO UPDATE SET words = excluded.words;
    RETURN NULL;
END
$$;

-- The words of a chunk. Of contents beyond 100,000 characters the rest is left out: a tsvector holds 1 MiB.
CREATE FUNCTION chunk_tsvector(symbol text, path text, content text) RETURNS tsvector
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT setweight(to_tsvector('simple', code_words(symbol)), 'A')
        || setweight(to_tsvector('simple', code_words(path)), 'B')
        || to_tsvector('simple', code_words(left(content, 100000)))
$$;

CREATE TRIGGER chunks_words_changed AFTER INSERT OR UPDATE OF symbol, path, content ON chunks
    FOR EACH ROW EXECUTE FUNCTION store_chunk_words();

INSERT INTO chunk_words (codebase_key, chunk_id, words)
SELECT codebase_key, chunk_id, chunk_tsvector(symbol, path, content) FROM chunks;

CREATE INDEX chunk_words_words ON chunk_words USING gin (words);

-- In how many chunks of a large codebase the common words stand; a word that is not here is rare. Kept by the gateway,
-- and allowed to be old: it decides how much a word weighs, and which words are worth looking up.
CREATE TABLE word_counts (
    codebase_key bigint NOT NULL REFERENCES codebases ON DELETE CASCADE,
    word         text COLLATE "C" NOT NULL,
    chunk_count  bigint NOT NULL,
    PRIMARY KEY (codebase_key, word)
);

-- Without policies, for the reason above; written by nobody but the owner.
GRANT SELECT ON chunk_words, word_counts TO duovec_caller, duovec_admin;
