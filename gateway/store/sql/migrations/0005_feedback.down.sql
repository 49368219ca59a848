DROP VIEW feedback_examples;
DROP TABLE feedback;
DROP POLICY caller_select ON searches;
DROP TABLE searched_codebases;
DROP FUNCTION delete_searches_of_nothing();
DROP TABLE searches;
