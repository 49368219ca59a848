-- The extension stays: it may have been there before, and others may use it.
DROP TABLE embeddings;
DROP TABLE chunks;
DROP FUNCTION delete_stale_embeddings();
DROP TABLE spaces;
DROP TABLE codebases;
