DROP FUNCTION space_key_of(text);
DROP TABLE cached_embeddings;
