DROP FUNCTION word_ranks(bigint[], text[], real[]);
DROP FUNCTION chunks_with_words(bigint[], tsquery);
DROP FUNCTION readable(bigint[]);

DROP POLICY caller_select ON word_counts;
DROP POLICY caller_select ON chunk_words;
DROP POLICY admin_all ON word_counts;
DROP POLICY admin_all ON chunk_words;

ALTER TABLE word_counts DISABLE ROW LEVEL SECURITY;
ALTER TABLE chunk_words DISABLE ROW LEVEL SECURITY;
