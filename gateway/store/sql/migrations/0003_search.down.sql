DROP TABLE word_counts;
DROP TRIGGER chunks_words_changed ON chunks;
DROP TABLE chunk_words;
DROP FUNCTION store_chunk_words();
DROP FUNCTION chunk_tsvector(text, text, text);
DROP FUNCTION code_words(text);
